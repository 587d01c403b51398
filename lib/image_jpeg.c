/* SPDX-License-Identifier: MIT */
/* image_jpeg.c - JPEG through the interface of libjpeg (libjpeg-turbo): baseline and progressive, grey or three colours, 8 bits.
 *
 * The codec takes its working memory from the C library, within a bound; the picture's memory is ours. It reports errors by a function that must not return: that one leaves
 * by longjmp to decode(), and everything that has to be freed stands in a structure that outlives the jump. */
#include "image_codec.h"

#include <setjmp.h>
#include <stdio.h>          /* jpeglib.h needs size_t and FILE */
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

/* A codec does work for every scan of a progressive picture, and a scan may be a few bytes long. Cameras and encoders make about ten. */
enum { MOST_SCANS = 500 };
static const uint64_t most_scanned_pixels = (uint64_t)64 * SL_LIMIT_IMAGE_PIXELS;

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    sl_status status;
    const sl_encoded *in;
    sl_image **out;
} decoder;

static void leave(decoder *d, sl_status status)
{
    d->status = status;
    longjmp(d->escape, 1);
}

/* ---- errors: what is not in the list is damage ---- */

static sl_status status_of(int code)
{
    static const struct { int code; sl_status status; } rows[] = {
        { JERR_OUT_OF_MEMORY, SL_ERR_NOMEM },
        { JERR_NO_BACKING_STORE, SL_ERR_LIMIT }, { JERR_IMAGE_TOO_BIG, SL_ERR_LIMIT }, { JERR_WIDTH_OVERFLOW, SL_ERR_LIMIT },
        { JERR_BAD_PRECISION, SL_ERR_UNSUPPORTED }, { JERR_SOF_UNSUPPORTED, SL_ERR_UNSUPPORTED }, { JERR_ARITH_NOTIMPL, SL_ERR_UNSUPPORTED },
        { JERR_NOT_COMPILED, SL_ERR_UNSUPPORTED }, { JERR_CONVERSION_NOTIMPL, SL_ERR_UNSUPPORTED }, { JERR_CCIR601_NOTIMPL, SL_ERR_UNSUPPORTED },
        { JERR_FRACT_SAMPLE_NOTIMPL, SL_ERR_UNSUPPORTED }, { JERR_COMPONENT_COUNT, SL_ERR_UNSUPPORTED },
        { JERR_INPUT_EOF, SL_ERR_TRUNCATED }, { JERR_INPUT_EMPTY, SL_ERR_TRUNCATED }, { JWRN_JPEG_EOF, SL_ERR_TRUNCATED }, { JWRN_HIT_MARKER, SL_ERR_TRUNCATED },
        { JERR_BAD_LIB_VERSION, SL_ERR_INTERNAL }, { JERR_BAD_STRUCT_SIZE, SL_ERR_INTERNAL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code)
            return rows[i].status;
    return SL_ERR_SYNTAX;
}

static void on_error(j_common_ptr jpeg)
{
    char text[JMSG_LENGTH_MAX], quoted[SL_QUOTE_BYTES];
    decoder *d = jpeg->client_data;
    jpeg->err->format_message(jpeg, text);
    const sl_status status = status_of(jpeg->err->msg_code);
    sl_fail(status, "%s", sl_quote(quoted, text, strlen(text)));
    leave(d, status);
}

/* Level -1 is a warning, and nearly all warnings are damage; these are not. */
static void on_message(j_common_ptr jpeg, int level)
{
    const int code = jpeg->err->msg_code;
    if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM && code != JWRN_NOT_SEQUENTIAL)
        on_error(jpeg);
}

static void say_nothing(j_common_ptr jpeg) { (void)jpeg; }

static void on_progress(j_common_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    const int scan = d->jpeg.input_scan_number;
    if (scan > MOST_SCANS || (uint64_t)scan * d->jpeg.image_width * d->jpeg.image_height > most_scanned_pixels)
        leave(d, sl_fail(SL_ERR_LIMIT, "scan %d of %u x %u pixels: too many", scan, d->jpeg.image_width, d->jpeg.image_height));
}

/* ---- the source: memory, and no more behind it ---- */

static void do_nothing(j_decompress_ptr jpeg) { (void)jpeg; }

static boolean at_end(j_decompress_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    leave(d, sl_fail(SL_ERR_TRUNCATED, "it ends at byte %zu", d->in->length));
    return FALSE;
}

static void skip(j_decompress_ptr jpeg, long bytes)
{
    struct jpeg_source_mgr *source = jpeg->src;
    if (bytes <= 0)
        return;
    if ((unsigned long)bytes > source->bytes_in_buffer)
        (void)at_end(jpeg);
    source->next_input_byte += bytes;
    source->bytes_in_buffer -= (size_t)bytes;
}

/* ---- decoding ---- */

/* From the markers in front of the first scan: 0xff, which, length with its own two bytes, content. Whatever looks odd is the codec's affair. */
static uint32_t find_orientation(const sl_encoded *in)
{
    enum { APP1 = 0xe1, SOS = 0xda };
    for (size_t at = 2; in->length - at >= 4 && in->data[at] == 0xff;) {
        const uint8_t *marker = in->data + at;
        if (marker[1] == 0xff) {        /* padding */
            at++;
            continue;
        }
        const size_t bytes = sl_get_be16(marker + 2);
        if (marker[1] == SOS || bytes < 2 || bytes > in->length - at - 2)
            break;
        if (marker[1] == APP1 && bytes >= 8 && !memcmp(marker + 4, "Exif\0\0", 6))
            return sl_exif_orientation(marker + 4, bytes - 2);
        at += 2 + bytes;
    }
    return 1;
}

static sl_status check_header(const decoder *d)
{
    const struct jpeg_decompress_struct *j = &d->jpeg;
    const J_COLOR_SPACE space = j->jpeg_color_space;
    if (j->arith_code)
        return sl_fail(SL_ERR_UNSUPPORTED, "arithmetic coding");
    if (j->data_precision != 8)
        return sl_fail(SL_ERR_UNSUPPORTED, "samples of %d bits", j->data_precision);
    if (space == JCS_CMYK || space == JCS_YCCK)
        return sl_fail(SL_ERR_UNSUPPORTED, "CMYK");
    if (space != JCS_GRAYSCALE && space != JCS_RGB && space != JCS_YCbCr)
        return sl_fail(SL_ERR_UNSUPPORTED, "%d components of unknown meaning", j->num_components);
    SL_TRY(sl_image_check(j->image_width, j->image_height));
    /* Each component has at least one bit for 64 of its samples, and at least a quarter of the samples across or down: a small file is no large picture. */
    enum { PIXELS_PER_BYTE = 8 * 64 * 16 };
    if ((uint64_t)j->image_width * j->image_height / PIXELS_PER_BYTE > d->in->length)
        return sl_fail(SL_ERR_TRUNCATED, "%zu bytes do not hold %u x %u pixels", d->in->length, j->image_width, j->image_height);
    return SL_OK;
}

static void set_up(decoder *d)
{
    jpeg_create_decompress(&d->jpeg);
    d->source = (struct jpeg_source_mgr) { d->in->data, d->in->length, do_nothing, at_end, skip, jpeg_resync_to_restart, do_nothing };
    d->progress.progress_monitor = on_progress;
    d->jpeg.src = &d->source;
    d->jpeg.progress = &d->progress;
}

/* Runs between set and longjmp: its own variables are lost by a jump, and none of them owns anything. */
static void read_picture(decoder *d)
{
    struct jpeg_decompress_struct *j = &d->jpeg;
    set_up(d);
    (void)jpeg_read_header(j, TRUE);
    sl_status status = check_header(d);
    if (status == SL_OK)
        status = sl_image_create(d->out, d->in->mem, j->image_width, j->image_height);
    if (status != SL_OK)
        leave(d, status);
    sl_image *image = *d->out;
    /* A progressive picture is kept whole as coefficients, two bytes each, at most three for a pixel, in blocks filled up at the borders. */
    j->mem->max_memory_to_use = (long)(64l << 20) + 8l * image->width * image->height;
    j->out_color_space = JCS_RGB;
    j->dct_method = JDCT_ISLOW;         /* exact: the same pixels on every machine */
    (void)jpeg_start_decompress(j);
    if (j->output_width != image->width || j->output_height != image->height || j->output_components != 3)
        leave(d, sl_fail(SL_ERR_INTERNAL, "the codec makes %u x %u pixels of %d bytes", j->output_width, j->output_height, j->output_components));
    while (j->output_scanline < image->height) {
        JSAMPROW row = image->rgb + 3 * (size_t)image->width * j->output_scanline;
        (void)jpeg_read_scanlines(j, &row, 1);
    }
    (void)jpeg_finish_decompress(j);
}

/* `d` is set up by the caller and does not change here, so a jump cannot harm it. */
static void decode(decoder *d)
{
    if (!setjmp(d->escape))
        read_picture(d);
}

sl_status sl_jpeg_decode(sl_image **out, const sl_encoded *in, uint32_t *orientation)
{
    decoder d = { .status = SL_OK, .in = in, .out = out };
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.jpeg.client_data = &d;
    d.errors.error_exit = on_error;
    d.errors.emit_message = on_message;
    d.errors.output_message = say_nothing;
    decode(&d);
    jpeg_destroy_decompress(&d.jpeg);
    *orientation = find_orientation(in);
    return d.status;
}
