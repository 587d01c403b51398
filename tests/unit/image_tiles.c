/* SPDX-License-Identifier: MIT */
/* image_tiles.c - pictures cut into tiles: arrangements and sizes against the formulas, pixels against the reference data, and the same pixels from every format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "counting.h"
#include "image.h"
#include "json.h"
#include "npy.h"
#include "picture_build.h"
#include "random.h"

static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

/* ---- arrangement and size ---- */

static void chooses_arrangement_and_size(void **state)
{
    (void)state;
    static const struct { uint32_t width, height, side, most; sl_tiling t; } rows[] = {
        /* the examples of the reference's description */
        { 512, 512, 560, 4, { 1, 1, 1, 560, 560 } }, { 300, 200, 560, 4, { 1, 1, 1, 560, 373 } }, { 1024, 768, 560, 4, { 2, 2, 6, 1024, 768 } },
        { 1200, 600, 560, 4, { 1, 2, 2, 1120, 560 } }, { 3000, 2000, 560, 4, { 2, 2, 6, 1120, 746 } }, { 400, 1600, 560, 4, { 3, 1, 7, 400, 1600 } },
        /* one tile; exactly one tile; a tie goes to fewer tiles */
        { 3000, 2000, 560, 1, { 1, 1, 1, 560, 373 } }, { 560, 560, 560, 4, { 1, 1, 1, 560, 560 } }, { 1120, 560, 560, 4, { 1, 2, 2, 1120, 560 } },
        { 560, 1120, 560, 4, { 2, 1, 5, 560, 1120 } }, { 5000, 560, 560, 4, { 1, 4, 4, 2240, 250 } }, { 560, 5000, 560, 4, { 4, 1, 8, 250, 2240 } },
        /* more tiles: 16 has 50 arrangements */
        { 1, 64, 14, 16, { 5, 1, 34, 1, 64 } }, { 64, 64, 14, 64, { 5, 5, 138, 64, 64 } },
        /* what the formula makes 0 high is 1 high */
        { 20000, 1, 560, 4, { 1, 4, 4, 2240, 1 } }, { 1, 20000, 560, 4, { 4, 1, 8, 1, 2240 } }, { 32768, 1, 1, 1, { 1, 1, 1, 1, 1 } },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sl_tiling t;
        assert_int_equal(sl_tiling_choose(&t, rows[i].width, rows[i].height, rows[i].side, rows[i].most), SL_OK);
        const sl_tiling *e = &rows[i].t;
        if (memcmp(&t, e, sizeof t))
            fail_msg("%u x %u: %d x %d tiles, id %d, %d x %d pixels; expected %d x %d, %d, %d x %d", rows[i].width, rows[i].height, t.tiles_high, t.tiles_wide, t.id, t.width, t.height,
                     e->tiles_high, e->tiles_wide, e->id, e->width, e->height);
    }
}

/* The formulas, read once more: all arrangements in a list, then the choice. */
static void is_what_the_formulas_say(void **state)
{
    (void)state;
    static const uint32_t lengths[] = { 1, 2, 3, 13, 55, 56, 57, 100, 112, 113, 167, 168, 500, 1000, 1023, 4096, 20000, 32768 }, limits[] = { 1, 2, 4, 5, 16, 64 };
    const uint32_t side = 56;
    for (size_t a = 0; a < COUNT(lengths) * COUNT(lengths) * COUNT(limits); a++) {
        const uint32_t w = lengths[a % COUNT(lengths)], h = lengths[a / COUNT(lengths) % COUNT(lengths)], most = limits[a / COUNT(lengths) / COUNT(lengths)];
        float smallest_up = INFINITY, largest = 0, scales[300];
        int n = 0, chosen = -1, high[300], wide[300];
        for (uint32_t i = 1; i <= most; i++)
            for (uint32_t k = 1; k <= most / i; k++, n++) {
                high[n] = (int)i, wide[n] = (int)k;
                scales[n] = fminf((float)(k * side) / (float)w, (float)(i * side) / (float)h);
                if (scales[n] >= 1)
                    smallest_up = fminf(smallest_up, scales[n]);
                largest = fmaxf(largest, scales[n]);
            }
        const float scale = isinf(smallest_up) ? largest : smallest_up;
        for (int i = 0; i < n; i++)
            if (scales[i] == scale && (chosen < 0 || high[i] * wide[i] < high[chosen] * wide[chosen]))
                chosen = i;
        sl_tiling t;
        assert_int_equal(sl_tiling_choose(&t, w, h, side, most), SL_OK);
        assert_int_equal(t.id, chosen + 1);
        assert_int_equal(t.tiles_high, high[chosen]);
        assert_int_equal(t.tiles_wide, wide[chosen]);
        const double tw = fmin(fmax(w, side), wide[chosen] * (double)side), th = fmin(fmax(h, side), high[chosen] * (double)side);
        const double width = tw / w < th / h ? tw : fmin(floor(w * (th / h)), tw), height = tw / w < th / h ? fmin(floor(h * (tw / w)), th) : th;
        assert_int_equal(t.width, (int)fmax(width, 1));
        assert_int_equal(t.height, (int)fmax(height, 1));
    }
}

static void refuses_wrong_numbers(void **state)
{
    (void)state;
    static const uint32_t rows[][4] = { { 0, 1, 56, 4 }, { 1, 0, 56, 4 }, { 1, 1, 0, 4 }, { 1, 1, 56, 0 }, { 1, 1, 56, 65 }, { 32769, 1, 56, 4 }, { 1, UINT32_MAX, 56, 4 }, { 1, 1, 32769, 4 } };
    sl_tiling t;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(sl_tiling_choose(&t, rows[i][0], rows[i][1], rows[i][2], rows[i][3]), SL_ERR_ARGUMENT);
    sl_image *image;
    float out[3];
    assert_int_equal(sl_image_from_rgb(&image, (const uint8_t[]) { 1, 2, 3 }, 1, 1, 0, NULL), SL_OK);
    const sl_tiling wrong[] = { { 0, 1, 1, 1, 1 }, { 1, 0, 1, 1, 1 }, { 1, 1, 1, 0, 1 }, { 1, 1, 1, 1, 0 }, { 1, 1, 1, 2, 1 }, { 1, 1, 1, 1, 2 }, { 65, 1, 1, 1, 1 } };
    for (size_t i = 0; i < COUNT(wrong); i++)
        assert_int_equal(sl_image_tiles(image, &wrong[i], 1, mean, deviation, out), SL_ERR_ARGUMENT);
    assert_int_equal(sl_image_tiles(image, &(sl_tiling) { 1, 1, 1, 1, 1 }, 1, mean, deviation, out), SL_OK);
    for (int c = 0; c < 3; c++)
        assert_true(out[c] == ((float)(c + 1) / 255.0f - mean[c]) / deviation[c]);
    sl_image_free(image);
}

/* ---- pixels ---- */

static float *tiles_of(const sl_image *image, const sl_tiling *t, uint32_t side)
{
    const size_t n = (size_t)t->tiles_high * (size_t)t->tiles_wide * 3 * side * side;
    float *out = malloc(n * sizeof *out);
    memset(out, 0xff, n * sizeof *out);         /* not a number, where nothing is written */
    assert_int_equal(sl_image_tiles(image, t, side, mean, deviation, out), SL_OK);
    return out;
}

/* What is neither resized nor rounded: a picture that fits exactly; then padding below and right. */
static void cuts_and_pads(void **state)
{
    (void)state;
    enum { SIDE = 4, W = 7, H = 5 };
    uint8_t *rgb = picture_pixels(W, H);
    sl_image *image;
    sl_tiling t;
    assert_int_equal(sl_image_from_rgb(&image, rgb, W, H, 0, NULL), SL_OK);
    assert_int_equal(sl_tiling_choose(&t, W, H, SIDE, 4), SL_OK);
    assert_true(t.tiles_high == 2 && t.tiles_wide == 2 && t.width == W && t.height == H);
    float *out = tiles_of(image, &t, SIDE);
    for (int tile = 0; tile < 4; tile++)
        for (int i = 0; i < 3 * SIDE * SIDE; i++) {
            const int c = i / SIDE / SIDE, y = tile / 2 * SIDE + i / SIDE % SIDE, x = tile % 2 * SIDE + i % SIDE;
            const int p = y < H && x < W ? rgb[3 * (y * W + x) + c] : 0;
            assert_true(out[tile * 3 * SIDE * SIDE + i] == ((float)p / 255.0f - mean[c]) / deviation[c]);
        }
    free(out), free(rgb);
    sl_image_free(image);
}

/* One colour stays that colour at every size, also of pictures that are one pixel high. */
static void keeps_one_colour(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = { { 20000, 1 }, { 1, 20000 }, { 3, 3 }, { 1000, 10 }, { 10, 1000 }, { 32768, 3 }, { 57, 56 } };
    const uint32_t side = 56;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const size_t n = 3 * (size_t)sizes[i][0] * sizes[i][1];
        uint8_t *rgb = malloc(n);
        sl_image *image;
        sl_tiling t;
        for (size_t k = 0; k < n; k++)
            rgb[k] = (uint8_t)(255 - k % 3 * 100);
        assert_int_equal(sl_image_from_rgb(&image, rgb, sizes[i][0], sizes[i][1], 0, NULL), SL_OK);
        assert_int_equal(sl_tiling_choose(&t, sizes[i][0], sizes[i][1], side, 4), SL_OK);
        float *out = tiles_of(image, &t, side);
        for (size_t k = 0; k < (size_t)t.tiles_high * (size_t)t.tiles_wide * 3 * side * side; k++) {
            const size_t tile = k / (3 * side * side), c = k / (side * side) % 3;
            const size_t y = tile / (size_t)t.tiles_wide * side + k / side % side, x = tile % (size_t)t.tiles_wide * side + k % side;
            const float p = y < (size_t)t.height && x < (size_t)t.width ? 255 - (float)c * 100 : 0;
            assert_true(out[k] == (p / 255.0f - mean[c]) / deviation[c]);
        }
        free(out), free(rgb);
        sl_image_free(image);
    }
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    uint8_t *rgb = picture_pixels(90, 70);
    static float out[4 * 3 * 14 * 14];
    for (size_t n = 1;; n++) {
        counting c = { 0 };
        sl_allocator a = counting_allocator(&c);
        sl_image *image;
        sl_tiling t;
        assert_int_equal(sl_image_from_rgb(&image, rgb, 90, 70, 0, &a), SL_OK);
        assert_int_equal(sl_tiling_choose(&t, 90, 70, 14, 4), SL_OK);
        const size_t before = c.live_blocks;
        c.fail_at = c.calls + n;
        const sl_status status = sl_image_tiles(image, &t, 14, mean, deviation, out);
        const int failed = c.calls >= c.fail_at;
        assert_int_equal(status, failed ? SL_ERR_NOMEM : SL_OK);
        assert_int_equal(c.live_blocks, before);
        sl_image_free(image);
        counting_check_none(&c);
        assert_false(c.wrong);
        if (!failed)
            break;
    }
    free(rgb);
}

/* ---- against the reference ---- */

enum { SIDE = 56 };

static sl_image *fixture_image(const char *name)
{
    char path[256];
    size_t size;
    sl_image *image = NULL;
    snprintf(path, sizeof path, "mllama-tiny/%s", name);
    unsigned char *data = fixture_load(path, &size);
    const sl_status status = sl_image_decode(&image, data, size, NULL);
    if (status != SL_OK)
        fail_msg("%s: %s (%s)", name, sl_status_name(status), sl_last_error());
    free(data);
    return image;
}

static void check_manifest(const char *name, const sl_image *image, const sl_tiling *t)
{
    size_t size;
    char *text = (char *)fixture_load("mllama-tiny/manifest.json", &size);
    struct json *manifest = json_parse(text, size, NULL);
    const struct json *row = json_get(json_get(manifest, "images"), name), *stored = json_get(row, "size"), *resized = json_get(row, "resized_to");
    assert_non_null(row);
    assert_true(stored->child->number == image->width && stored->child->next->number == image->height);
    assert_true(resized->child->number == t->width && resized->child->next->number == t->height);
    assert_true(json_number(row, "tiles_high", 0) == t->tiles_high && json_number(row, "tiles_wide", 0) == t->tiles_wide);
    assert_true(json_number(row, "aspect_ratio_id", 0) == t->id);
    json_free(manifest);
    free(text);
}

static void compare_pixels(const char *file, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "mllama-tiny/%s-pixels.npy", name);
    npy expected = npy_load(path);
    sl_image *image = fixture_image(file);
    sl_tiling t;
    assert_int_equal(sl_tiling_choose(&t, image->width, image->height, SIDE, 4), SL_OK);
    check_manifest(name, image, &t);
    assert_int_equal(expected.count, (size_t)t.tiles_high * (size_t)t.tiles_wide * 3 * SIDE * SIDE);
    float *out = tiles_of(image, &t, SIDE), worst = 0;
    for (size_t i = 0; i < expected.count; i++)
        worst = fmaxf(worst, fabsf(out[i] - ((const float *)expected.data)[i]));
    printf("%s: worst difference %g\n", file, (double)worst);
    assert_true(worst <= 1e-5f);
    free(out), free(expected.block);
    sl_image_free(image);
}

static void equals_the_reference(void **state)
{
    (void)state;
    static const char *const names[] = { "dog", "small", "wide" };
    for (size_t i = 0; i < COUNT(names); i++) {
        char file[64];
        snprintf(file, sizeof file, "%s.ppm", names[i]);
        compare_pixels(file, names[i]);
    }
    if (SL_WITH_IMAGE_PNG)
        compare_pixels("small.png", "small");
}

/* In grey levels, before normalising. */
static void compare_tiles(const char *what, const sl_image *image, const sl_image *wanted)
{
    sl_tiling t;
    assert_int_equal(image->width, wanted->width);
    assert_int_equal(image->height, wanted->height);
    assert_int_equal(sl_tiling_choose(&t, image->width, image->height, SIDE, 4), SL_OK);
    const size_t n = (size_t)t.tiles_high * (size_t)t.tiles_wide * 3 * SIDE * SIDE;
    float *a = tiles_of(image, &t, SIDE), *b = tiles_of(wanted, &t, SIDE);
    double worst = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double levels = fabs((double)a[i] - (double)b[i]) * (double)deviation[i / SIDE / SIDE % 3] * 255;
        worst = fmax(worst, levels);
        sum += levels;
    }
    printf("dog through %s: tiles differ by at most %.2f grey levels, %.3f in the mean\n", what, worst, sum / (double)n);
    assert_true(worst <= 3.001 && sum / (double)n < 0.5);
    free(a), free(b);
}

static void is_alike_from_every_format(void **state)
{
    (void)state;
    sl_image *dog = fixture_image("dog.ppm"), *image;
    const uint32_t w = dog->width, h = dog->height;
    picture p = { 0 };
    if (SL_WITH_IMAGE_JPEG) {
        image = fixture_image("dog.jpg");
        compare_tiles("jpeg", image, dog);
        sl_image_free(image);
    }
    if (SL_WITH_IMAGE_PNG) {
        uint16_t *samples = malloc(3 * (size_t)w * h * sizeof *samples);
        for (size_t i = 0; i < 3 * (size_t)w * h; i++)
            samples[i] = dog->rgb[i];
        picture_png(&p, &(png_recipe) { .width = w, .height = h, .bits = 8, .type = PNG_RGB, .samples = samples });
        assert_int_equal(sl_image_decode(&image, p.data, p.size, NULL), SL_OK);
        assert_memory_equal(image->rgb, dog->rgb, 3 * (size_t)w * h);
        compare_tiles("png", image, dog);
        sl_image_free(image);
        picture_free(&p);
        free(samples);
    }
    if (SL_WITH_IMAGE_WEBP) {
        picture_webp(&p, dog->rgb, w, h, 3);
        assert_int_equal(sl_image_decode(&image, p.data, p.size, NULL), SL_OK);
        assert_memory_equal(image->rgb, dog->rgb, 3 * (size_t)w * h);
        compare_tiles("webp", image, dog);
        sl_image_free(image);
        picture_free(&p);
    }
    sl_image_free(dog);
}

/* ---- one square ---- */

/* Keys' cubic with a = -1/2. */
static double cubic(double d)
{
    d = fabs(d);
    return d < 1 ? 1.5 * d * d * d - 2.5 * d * d + 1 : d < 2 ? -0.5 * d * d * d + 2.5 * d * d - 4 * d + 2 : 0;
}

/* Number `i` of `out` resized numbers, of in[n] that lie `step` bytes apart; rounded to a byte. */
static uint8_t resized(const uint8_t *in, size_t step, size_t n, size_t out, size_t i)
{
    const double scale = (double)n / (double)out, wide = fmax(scale, 1), center = ((double)i + 0.5) * scale;
    double sum = 0, all = 0;
    for (size_t x = 0; x < n; x++) {
        const double w = fabs((double)x + 0.5 - center) < 2 * wide + 0.5 ? cubic(((double)x + 0.5 - center) / wide) : 0;
        sum += w * in[x * step], all += w;
    }
    return (uint8_t)fmin(fmax(floor(sum / all + 0.5), 0), 255);
}

/* The padded picture is made, resized along x, then along y. */
static void check_square(uint32_t width, uint32_t height, uint32_t to)
{
    static const uint8_t colour[3] = { 122, 116, 104 };
    const size_t side = width > height ? width : height, left = (side - width) / 2, top = (side - height) / 2;
    uint8_t *rgb = malloc(3 * (size_t)width * height), *square = malloc(side * side * 3), *narrow = malloc(side * to * 3);
    float *out = malloc(3 * (size_t)to * to * sizeof *out);
    sl_image *image;
    uint64_t random = width + height;
    size_t n_off = 0;
    for (size_t i = 0; i < 3 * (size_t)width * height; i++)
        rgb[i] = (uint8_t)random_below(&random, 256);       /* not a smooth picture: sums would lie between two bytes */
    for (size_t i = 0; i < side * side * 3; i++) {
        const size_t x = i / 3 % side - left, y = i / 3 / side - top;
        square[i] = x < width && y < height ? rgb[(y * width + x) * 3 + i % 3] : colour[i % 3];
    }
    for (size_t y = 0; y < side; y++)
        for (size_t i = 0; i < 3 * (size_t)to; i++)
            narrow[y * to * 3 + i] = side == to ? square[y * side * 3 + i] : resized(square + y * side * 3 + i % 3, 3, side, to, i / 3);
    assert_int_equal(sl_image_from_rgb(&image, rgb, width, height, 0, NULL), SL_OK);
    assert_int_equal(sl_image_square(image, to, colour, mean, deviation, out), SL_OK);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < to; y++)
            for (size_t x = 0; x < to; x++) {
                const double got = (out[(c * to + y) * to + x] * deviation[c] + mean[c]) * 255;
                const int byte = (int)floor(got + 0.5), want = side == to ? narrow[(y * to + x) * 3 + c] : resized(narrow + x * 3 + c, (size_t)to * 3, side, to, y);
                if (fabs(got - byte) > 1e-3 || abs(byte - want) > 1)
                    fail_msg("%u x %u to %u: channel %zu, row %zu, column %zu is %g, must be %d", width, height, to, c, y, x, got, want);
                n_off += byte != want;
            }
    if (n_off > 3 * (size_t)to * to / 200)
        fail_msg("%u x %u to %u: %zu bytes are off by one", width, height, to, n_off);
    sl_image_free(image);
    free(rgb), free(square), free(narrow), free(out);
}

static void squares(void **state)
{
    (void)state;
    static const uint32_t sizes[][3] = { { 1, 1, 1 }, { 1, 1, 5 }, { 7, 7, 7 }, { 7, 4, 7 }, { 4, 7, 7 }, { 7, 4, 10 }, { 4, 7, 3 }, { 40, 31, 14 }, { 31, 40, 14 }, { 100, 1, 28 }, { 1, 100, 28 },
                                         { 13, 12, 28 }, { 29, 28, 28 }, { 300, 5, 7 } };
    for (size_t i = 0; i < COUNT(sizes); i++)
        check_square(sizes[i][0], sizes[i][1], sizes[i][2]);
    /* 32768 pixels a side: the square would be 3 GiB. Without memory: an error, and nothing leaks. */
    counting c = { 0 };
    const sl_allocator allocator = counting_allocator(&c);
    uint8_t *rgb = calloc(32768, 3);
    float *out = malloc(3 * 16 * 16 * sizeof *out);
    sl_image *image;
    sl_status status = SL_ERR_NOMEM;
    assert_int_equal(sl_image_from_rgb(&image, rgb, 32768, 1, 0, &allocator), SL_OK);
    const size_t held = c.live_bytes, blocks = c.live_blocks;
    for (size_t fail_at = 1; status != SL_OK; fail_at++) {
        c.calls = 0, c.fail_at = fail_at, c.fail_for = 1, c.peak_bytes = 0;
        status = sl_image_square(image, 16, rgb, mean, deviation, out);
        assert_true(status == SL_OK || status == SL_ERR_NOMEM);
        assert_int_equal(c.live_blocks, blocks);
    }
    assert_true(c.peak_bytes - held < 1 << 20 && c.live_bytes == held && !c.wrong);
    assert_int_equal(sl_image_square(image, 0, rgb, mean, deviation, out), SL_ERR_ARGUMENT);
    assert_int_equal(sl_image_square(image, 32769, rgb, mean, deviation, out), SL_ERR_ARGUMENT);
    sl_image_free(image);
    free(rgb), free(out);
}

int main(void)
{
    const struct CMUnitTest own[] = {
        cmocka_unit_test(chooses_arrangement_and_size), cmocka_unit_test(is_what_the_formulas_say), cmocka_unit_test(refuses_wrong_numbers),
        cmocka_unit_test(cuts_and_pads), cmocka_unit_test(squares), cmocka_unit_test(keeps_one_colour),         cmocka_unit_test(survives_lack_of_memory),
    };
    const struct CMUnitTest reference[] = { cmocka_unit_test(equals_the_reference), cmocka_unit_test(is_alike_from_every_format) };
    const int failed = cmocka_run_group_tests_name("image_tiles", own, NULL, NULL);
    return failed ? failed : cmocka_run_group_tests_name("image_tiles against the reference", reference, NULL, NULL);
}
