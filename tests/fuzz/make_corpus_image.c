/* SPDX-License-Identifier: MIT */
/* make_corpus_image.c - writes the seed files of the fuzz target image: make-corpus-image FOLDER. Every format with its variants, small. */
#include "picture_build.h"

#include <stdio.h>
#include <stdlib.h>

enum { W = 19, H = 11 };

static const char *folder;
static int n_files;

static void write_picture(const char *name, picture *p)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(p->data, 1, p->size, file) != p->size || fclose(file)) {
        fprintf(stderr, "%s: cannot be written\n", path);
        exit(1);
    }
    n_files++;
    picture_free(p);
}

static void make_png(void)
{
    static const int forms[][2] = { { PNG_GREY, 1 }, { PNG_GREY, 2 }, { PNG_GREY, 4 }, { PNG_GREY, 8 }, { PNG_GREY, 16 }, { PNG_RGB, 8 }, { PNG_RGB, 16 }, { PNG_PALETTE, 1 }, { PNG_PALETTE, 4 },
                                    { PNG_PALETTE, 8 }, { PNG_GREY_ALPHA, 8 }, { PNG_GREY_ALPHA, 16 }, { PNG_RGB_ALPHA, 8 }, { PNG_RGB_ALPHA, 16 } };
    static uint16_t samples[4 * W * H];
    uint8_t palette[3 * 256];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (int variant = 0; variant < 2; variant++) {
            char name[64];
            picture p = { 0 };
            const int type = forms[i][0], bits = forms[i][1], indexed = type == PNG_PALETTE;
            for (size_t k = 0; k < sizeof samples / sizeof *samples; k++)
                samples[k] = (uint16_t)(k * 37 & ((1u << bits) - 1));
            for (size_t k = 0; k < sizeof palette; k++)
                palette[k] = (uint8_t)(k * 5);
            png_recipe r = { .width = W, .height = H, .bits = bits, .type = type, .interlaced = variant, .samples = samples, .orientation = variant ? 3 + (uint32_t)i % 6 : 0 };
            if (indexed)
                r.palette = palette, r.n_palette = 1u << bits;
            if (variant && type != PNG_GREY_ALPHA && type != PNG_RGB_ALPHA)
                r.transparent = (const uint8_t[6]) { 0, 0, 0, 37 }, r.n_transparent = indexed ? 2 : 2 * (size_t)picture_png_channels(type);
            picture_png(&p, &r);
            snprintf(name, sizeof name, "png_%d_%d_%d", type, bits, variant);
            write_picture(name, &p);
        }
}

static void make_jpeg(const uint8_t *rgb)
{
    static const struct { const char *name; int flags; } forms[] = { { "jpeg", 0 }, { "jpeg_grey", JPEG_GREY }, { "jpeg_progressive", JPEG_PROGRESSIVE }, { "jpeg_scans", JPEG_SCANS }, { "jpeg_grey_progressive", JPEG_GREY | JPEG_PROGRESSIVE } };
    picture p = { 0 }, exif = { 0 };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        picture_jpeg(&p, rgb, W, H, 50, forms[i].flags);
        write_picture(forms[i].name, &p);
    }
    picture_jpeg(&p, rgb, W / 2, H / 2, 50, JPEG_CMYK);
    write_picture("jpeg_cmyk", &p);
    picture_jpeg(&p, rgb, W, H, 50, 0);
    picture_put(&exif, "\xff\xe1\0\0Exif\0\0", 10), picture_exif(&exif, 6, 0);
    exif.data[3] = (uint8_t)(exif.size - 2);
    picture_insert(&p, 2, exif.data, exif.size);
    write_picture("jpeg_exif", &p);
    picture_free(&exif);
}

static void make_webp(const uint8_t *rgb)
{
    picture p = { 0 };
    uint8_t rgba[4 * W * H];
    for (size_t i = 0; i < sizeof rgba; i++)
        rgba[i] = (uint8_t)(i / 8 * 8 + i % 4 * 20);
    picture_webp(&p, rgb, W, H, 3), write_picture("webp", &p);
    picture_webp(&p, rgba, W, H, 4), write_picture("webp_alpha", &p);
    picture_webp_lossy(&p, rgb, W, H), write_picture("webp_lossy", &p);
    picture_webp(&p, rgba, W, H, 4), picture_webp_extend(&p, W, H, 8, 0x10), write_picture("webp_exif", &p);
    picture_webp(&p, rgb, W, H, 3), picture_webp_extend(&p, W, H, 1, 0x02), write_picture("webp_animated", &p);
}

static void make_bmp(const uint8_t *rgb)
{
    static const int forms[][2] = { { 1, 0 }, { 4, 0 }, { 8, 0 }, { 16, 0 }, { 32, 0 }, { 16, 3 }, { 32, 3 }, { 8, 1 } };     /* bits, compression */
    picture p = { 0 };
    picture_bmp(&p, rgb, W, H), write_picture("bmp_24", &p);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char name[64];
        const uint32_t bits = (uint32_t)forms[i][0], row = (W * bits + 31) / 32 * 4, extra = bits <= 8 ? 4u << bits : forms[i][1] ? 12 : 0;
        picture_bmp(&p, rgb, W, H);
        p.size = 54;
        p.data[28] = (uint8_t)bits, p.data[30] = (uint8_t)forms[i][1];
        p.data[10] = (uint8_t)(54 + extra), p.data[11] = (uint8_t)((54 + extra) >> 8);
        for (uint32_t k = 0; k < extra / 4; k++)
            picture_put_le(&p, bits <= 8 ? k * 0x010307 : bits == 16 ? 0xf800u >> (k * 5) : 0xff0000u >> (k * 8), 4);
        for (uint32_t k = 0; k < row * H; k++)
            picture_put_le(&p, k * 7, 1);
        snprintf(name, sizeof name, "bmp_%u_%d", bits, forms[i][1]);
        write_picture(name, &p);
    }
}

static void make_ppm(const uint8_t *rgb)
{
    picture p = { 0 };
    picture_ppm(&p, rgb, W, H), write_picture("ppm", &p);
    picture_put(&p, "P6#x\n2 2 1000\n", 14), picture_put(&p, rgb, 24), write_picture("ppm_16", &p);
    picture_put(&p, "P6 2 2 7\n\1\2\3\4\5\6\7\0\1\2\3\4", 21), write_picture("ppm_7", &p);
    picture_put(&p, "GIF89a", 6), write_picture("gif", &p);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "make-corpus-image FOLDER\n");
        return 2;
    }
    folder = argv[1];
    uint8_t *rgb = picture_pixels(W, H);
    make_png();
    make_jpeg(rgb);
    make_webp(rgb);
    make_bmp(rgb);
    make_ppm(rgb);
    free(rgb);
    printf("%d files\n", n_files);
    return 0;
}
