/* SPDX-License-Identifier: MIT */
/* pictures.c - a picture's way into a session: tiles, patches, the encoder's pass, keys and values or rows of vectors; and who sees what. */
#include "pictures.h"

#include "platform.h"

#include <string.h>

/* ---- sizes ---- */

static int64_t pages_of(int64_t n_keys) { return (n_keys + SL_PAGE_KEYS - 1) / SL_PAGE_KEYS; }
/* Tiles that go through the encoder for a picture that is cut into n: all, used or not, or those and, behind several, the whole picture as one. */
static int64_t tiles_of(const sl_vision *v, int64_t n) { return !v->n_vector ? v->max_tiles : n > 1 ? n + 1 : n; }
/* Keys or rows of such a picture. */
static int64_t keys_of(const sl_vision *v, int64_t n) { return v->n_vector ? tiles_of(v, n) * v->n_vector : n * v->n_pos; }
static int64_t keys_most(const sl_vision *v) { return keys_of(v, v->max_tiles); }
static int64_t patch_size(const sl_vision *v) { return (int64_t)v->patch_side * v->patch_side * v->n_channel; }

/* First page that no picture uses. */
static int64_t end_page(const sl_pictures *pictures)
{
    const sl_picture_place *last = pictures->n ? &pictures->places[pictures->n - 1] : NULL;
    return last ? pages_of(last->first_key + last->n_keys) : 0;
}

/* ---- the encoder's pass ---- */

/* One picture. While planning: the largest, without arrays. */
typedef struct encoding {
    const sl_kv_layer *kv;
    const float *patches;
    const int32_t *arrangement, *spans, *ranges, *positions, *pages;    /* positions: [most of both] 0, 1, ... */
    const int32_t *key_positions;                                       /* [n_keys] */
    int64_t n_tile, first_key, n_keys, n_kv_pages;                                 /* tiles that go through the encoder */
    uint64_t *clock;                                                    /* NULL, or [3]: when the pass began, when its vectors were there, when it ended */
} encoding;

static sl_tensor input_rows(sl_pass *pass, sl_type type, int64_t n0, int64_t n1, const void *host)
{
    return sl_view_slots(sl_view_heads(sl_pass_input(pass, type, n0 * n1, host), n0));
}

static void stamp(const encoding *e, int i)
{
    if (e->clock)
        e->clock[i] = sl_clock_ns();
}

static void encode_pass(sl_pass *pass, const sl_model *model, const void *what)
{
    const encoding *e = what;
    const sl_vision *v = &model->hp.vision;
    const int64_t n_pos = (int64_t)v->max_tiles * v->n_pos_padded;
    sl_tensor positions[SL_MAX_DEVICES] = { 0 }, pages[SL_MAX_DEVICES] = { 0 };
    for (int d = 0; d < pass->n_devices; d++) {
        pass->device = d;
        positions[d] = sl_pass_input(pass, SL_TYPE_I32, e->n_keys, e->key_positions);
        pages[d] = sl_pass_input(pass, SL_TYPE_I32, e->n_kv_pages, e->pages);
    }
    pass->device = model->io_device;
    stamp(e, 0);
    const sl_picture picture = {
        .patches = input_rows(pass, SL_TYPE_F32, patch_size(v), e->n_tile * v->n_patch, e->patches),
        .arrangement = sl_pass_input(pass, SL_TYPE_I32, 1, e->arrangement),
        .spans = input_rows(pass, SL_TYPE_I32, 2, 1 + v->max_tiles, e->spans),
        .ranges = input_rows(pass, SL_TYPE_I32, 2, n_pos, e->ranges),
        .positions = sl_pass_input(pass, SL_TYPE_I32, n_pos, e->positions),
        .pages = sl_pass_input(pass, SL_TYPE_I32, pages_of(n_pos), e->pages),
    };
    sl_tensor vectors = sl_view_tokens(model->arch->encode(pass, model, &picture), 0, e->n_keys);
    stamp(e, 1);
    if (v->n_vector) {
        vectors = sl_pass_move(pass, vectors, model->layer_device[0]);
        sl_op_copy_to(pass, sl_view_tokens(sl_kv_rows(&e->kv[0]), e->first_key, e->n_keys), vectors);
        stamp(e, 2);
        return;
    }
    for (uint32_t l = 0; l < model->hp.n_layer; l++)
        if (model->hp.cross[l]) {
            vectors = sl_pass_move(pass, vectors, model->layer_device[l]);
            const sl_mark mark = sl_pass_mark(pass);
            model->arch->remember(pass, model, (int)l, vectors, &e->kv[l], positions[pass->device], pages[pass->device]);
            sl_pass_release(pass, mark);
        }
    stamp(e, 2);
}

/* ---- what goes into it ---- */

/* The host's side of an encoding: arrays of numbers of four bytes. */
enum { TILES, PATCHES, SPANS, RANGES, POSITIONS, KEY_POSITIONS, PAGES, ARRAYS };
typedef struct inputs {
    void *arrays[ARRAYS];
    int32_t arrangement;
} inputs;

static void count_inputs(const sl_vision *v, int64_t n_tile, int64_t n_pages, size_t counts[ARRAYS])
{
    const size_t n_pos = (size_t)v->max_tiles * v->n_pos_padded;
    const int64_t own_pages = pages_of((int64_t)n_pos);
    counts[TILES] = (size_t)(v->n_vector ? tiles_of(v, n_tile) : n_tile) * v->tile_side * v->tile_side * v->n_channel;
    counts[PATCHES] = (size_t)tiles_of(v, n_tile) * v->n_patch * (size_t)patch_size(v);
    counts[SPANS] = 2 * (size_t)(1 + v->max_tiles);
    counts[RANGES] = 2 * n_pos;
    counts[POSITIONS] = n_pos;
    counts[KEY_POSITIONS] = (size_t)keys_most(v);
    counts[PAGES] = (size_t)(n_pages > own_pages ? n_pages : own_pages);
}

static void inputs_free(inputs *in, const sl_mem *mem)
{
    for (int i = 0; i < ARRAYS; i++)
        sl_mem_free(mem, in->arrays[i]);
}

/* Tiles [side, side, channel, n_tile] to patches [patch, patch, channel, patch of the tile, tile]. */
static void cut_patches(const sl_vision *v, int64_t n_tile, const float *tiles, float *patches)
{
    const int64_t side = v->tile_side, p = v->patch_side, per_side = side / p;
    for (int64_t t = 0; t < n_tile; t++)
        for (int64_t row = 0; row < per_side; row++)
            for (int64_t column = 0; column < per_side; column++)
                for (int64_t c = 0; c < v->n_channel; c++)
                    for (int64_t y = 0; y < p; y++, patches += p)
                        memcpy(patches, tiles + ((t * v->n_channel + c) * side + row * p + y) * side + column * p, (size_t)p * sizeof *patches);
}

/* Span 0 is everything, spans 1 .. n_tile are the used tiles without their padding. A position of those sees everything, any other one (padding, and
 * all of a tile that is not used) only them. */
static void mark_visible(const sl_vision *v, int32_t n_tile, int32_t *spans, int32_t *ranges)
{
    const int32_t n = (int32_t)v->n_pos, padded = (int32_t)v->n_pos_padded;
    spans[0] = 0, spans[1] = (int32_t)v->max_tiles * padded;
    for (int32_t t = 0; t < n_tile; t++)
        spans[2 * t + 2] = t * padded, spans[2 * t + 3] = t * padded + n;
    for (int32_t t = 0; t < (int32_t)v->max_tiles; t++)
        for (int32_t i = 0; i < padded; i++, ranges += 2) {
            const int live = t < n_tile && i < n;
            ranges[0] = live ? 0 : 1;
            ranges[1] = live ? 1 : 1 + n_tile;
        }
}

static void fill_numbers(int32_t *to, size_t n, int64_t first)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (int32_t)(first + (int64_t)i);
}

/* Makes `tile` of a picture in a square whose ground has the colour that normalises to about 0, cut to whole numbers as the models were trained with. */
static sl_status square_tile(const sl_vision *v, const sl_image *image, float *tile)
{
    uint8_t colour[3];
    for (int c = 0; c < 3; c++)
        colour[c] = (uint8_t)(v->mean[c] <= 0 ? 0 : v->mean[c] >= 1 ? 255 : v->mean[c] * 255.0f);
    return sl_image_square(image, v->tile_side, colour, v->mean, v->deviation, tile);
}

static sl_status inputs_make(inputs *in, const sl_mem *mem, const sl_vision *v, const sl_image *image, int64_t first_key, int64_t n_pages, int32_t *n_tile)
{
    size_t counts[ARRAYS];
    sl_tiling tiling;
    *in = (inputs) { 0 };
    SL_TRY(sl_tiling_choose(&tiling, image->width, image->height, v->tile_side, v->max_tiles));
    *n_tile = tiling.tiles_high * tiling.tiles_wide;
    in->arrangement = tiling.id;
    count_inputs(v, *n_tile, n_pages, counts);
    for (int i = 0; i < ARRAYS; i++)
        if (!(in->arrays[i] = sl_mem_alloc(mem, counts[i], 4)))     /* zeroed: patches of tiles that are not used */
            return SL_ERR_NOMEM;
    SL_TRY(v->square ? square_tile(v, image, in->arrays[TILES]) : sl_image_tiles(image, &tiling, v->tile_side, v->mean, v->deviation, in->arrays[TILES]));
    if (v->n_vector && *n_tile > 1) {
        const sl_tiling whole = { 1, 1, 1, (int32_t)v->tile_side, (int32_t)v->tile_side };
        SL_TRY(sl_image_tiles(image, &whole, v->tile_side, v->mean, v->deviation, (float *)in->arrays[TILES] + (size_t)*n_tile * v->tile_side * v->tile_side * v->n_channel));
    }
    cut_patches(v, v->n_vector ? tiles_of(v, *n_tile) : *n_tile, in->arrays[TILES], in->arrays[PATCHES]);
    mark_visible(v, *n_tile, in->arrays[SPANS], in->arrays[RANGES]);
    fill_numbers(in->arrays[POSITIONS], counts[POSITIONS], 0);
    fill_numbers(in->arrays[KEY_POSITIONS], counts[KEY_POSITIONS], first_key);
    fill_numbers(in->arrays[PAGES], counts[PAGES], 0);
    return SL_OK;
}

/* ---- what is kept ---- */

/* 1 if layer l keeps something of pictures. */
static int keeps(const sl_model *model, uint32_t l) { return model->hp.vision.n_vector ? l == 0 : model->hp.cross[l]; }

/* Shapes of n_pages pages of that, without memory; their bytes are added. */
static sl_status layer_shape(const sl_pictures *pictures, uint32_t l, sl_kv_layer *layer, int64_t n_pages, uint64_t *bytes)
{
    const sl_hparams *hp = &pictures->model->hp;
    return hp->vision.n_vector ? sl_kv_rows_shape(layer, hp->n_embd, n_pages, bytes) : sl_kv_layer_shape(layer, hp, l, pictures->type, n_pages, bytes);
}

/* Makes one layer hold n_pages pages, what was there included. */
static sl_status grow_layer(sl_pictures *pictures, uint32_t l, int64_t n_pages)
{
    sl_kv_layer *old = &pictures->kv[l], wider = { 0 };
    uint64_t bytes = 0;
    if (old->k.data && old->k.ne[3] >= n_pages)
        return SL_OK;
    SL_TRY(layer_shape(pictures, l, &wider, n_pages, &bytes));
    sl_status status = sl_kv_layer_alloc(&wider, pictures->model, l);
    if (status == SL_OK && old->k.data)
        status = sl_kv_layer_copy(pictures->model, l, old, 0, &wider, 0, old->k.ne[3]);
    sl_kv_layer_free(status == SL_OK ? old : &wider, pictures->model, l);
    if (status == SL_OK)
        *old = wider;
    return status;
}

static sl_status grow(sl_pictures *pictures, int64_t n_pages)
{
    for (uint32_t l = 0; l < pictures->model->hp.n_layer; l++)
        if (keeps(pictures->model, l))
            SL_TRY(grow_layer(pictures, l, n_pages));
    pictures->n_pages = n_pages > pictures->n_pages ? n_pages : pictures->n_pages;
    return sl_mem_grow(&pictures->model->mem, &pictures->places, pictures->n + 1, sizeof *pictures->places);
}

/* A layer's keys and values of all pictures that are held side by side in memory of its own, of the same size. */
static sl_status pack_layer(const sl_pictures *pictures, uint32_t l, sl_kv_layer *packed)
{
    const sl_kv_layer *old = &pictures->kv[l];
    uint64_t bytes = 0;
    int64_t at = 0;
    SL_TRY(layer_shape(pictures, l, packed, old->k.ne[3], &bytes));
    SL_TRY(sl_kv_layer_alloc(packed, pictures->model, l));
    for (size_t i = 0; i < pictures->n; i++) {
        const sl_picture_place *place = &pictures->places[i];
        if (!place->n_holders)
            continue;
        SL_TRY(sl_kv_layer_copy(pictures->model, l, old, place->first_key / SL_PAGE_KEYS, packed, at, pages_of(place->n_keys)));
        at += pages_of(place->n_keys);
    }
    return SL_OK;
}

/* Takes those that nobody holds out of the list; the others have lain side by side since pack_layer. */
static void close_list(sl_pictures *pictures)
{
    int64_t at = 0;
    size_t n = 0;
    for (size_t i = 0; i < pictures->n; i++) {
        sl_picture_place *place = &pictures->places[i];
        if (!place->n_holders)
            continue;
        for (uint32_t q = 0; n != i && q < pictures->n_seq; q++)
            for (size_t e = 0; e < pictures->albums[q].n; e++)
                if (pictures->albums[q].entries[e].picture == i)
                    pictures->albums[q].entries[e].picture = n;
        place->first_key = at * SL_PAGE_KEYS;
        at += pages_of(place->n_keys);
        pictures->places[n++] = *place;
    }
    pictures->n = n;
}

/* Pictures that were forgotten before others have left holes: closes them, else the memory would grow with every picture that ever was. */
static sl_status close_holes(sl_pictures *pictures)
{
    const sl_model *model = pictures->model;
    int64_t held = 0;
    for (size_t i = 0; i < pictures->n; i++)
        held += pictures->places[i].n_holders ? pages_of(pictures->places[i].n_keys) : 0;
    if (held == end_page(pictures))
        return SL_OK;
    sl_kv_layer *packed = sl_mem_alloc(&model->mem, model->hp.n_layer, sizeof *packed);
    sl_status status = packed ? SL_OK : SL_ERR_NOMEM;
    for (uint32_t l = 0; status == SL_OK && l < model->hp.n_layer; l++)
        if (keeps(model, l))
            status = pack_layer(pictures, l, &packed[l]);
    for (uint32_t l = 0; packed && l < model->hp.n_layer; l++) {
        if (!keeps(model, l))
            continue;
        sl_kv_layer_free(status == SL_OK ? &pictures->kv[l] : &packed[l], model, l);
        if (status == SL_OK)
            pictures->kv[l] = packed[l];
    }
    sl_mem_free(&model->mem, packed);
    if (status == SL_OK)
        close_list(pictures);
    return status;
}

static uint64_t bytes_of(const sl_pictures *pictures, int64_t n_pages)
{
    uint64_t bytes = 0;
    for (uint32_t l = 0; pictures->kv && l < pictures->model->hp.n_layer; l++) {
        sl_kv_layer layer;
        if (keeps(pictures->model, l) && layer_shape(pictures, l, &layer, n_pages, &bytes) != SL_OK)
            return UINT64_MAX;
    }
    return bytes;
}

uint64_t sl_pictures_bytes(const sl_pictures *pictures) { return pictures->n_pages ? bytes_of(pictures, pictures->n_pages) : 0; }
uint64_t sl_pictures_bytes_each(const sl_pictures *pictures) { return pictures->kv ? bytes_of(pictures, pages_of(keys_most(&pictures->model->hp.vision))) : 0; }

uint64_t sl_pictures_bytes_encoder(const sl_pictures *pictures)
{
    if (!pictures->kv)
        return 0;
    const sl_vision *v = &pictures->model->hp.vision;
    size_t counts[ARRAYS];
    uint64_t bytes = 0;
    count_inputs(v, v->max_tiles, pages_of(keys_most(v)), counts);
    for (int i = 0; i < ARRAYS; i++)
        bytes += 4 * (uint64_t)counts[i];
    for (int d = 0; d < pictures->model->n_devices; d++)
        bytes += pictures->plan.arena[d];
    return bytes;
}

/* ---- pictures come and go ---- */

sl_status sl_pictures_init(sl_pictures *pictures, const sl_model *model, sl_type type, uint32_t n_seq)
{
    const sl_hparams *hp = &model->hp;
    *pictures = (sl_pictures) { .model = model, .type = type, .n_seq = n_seq, .plan = { .mem = &model->mem } };
    if (!hp->vision.max_tiles)
        return SL_OK;
    pictures->kv = sl_mem_alloc(&model->mem, hp->n_layer, sizeof *pictures->kv);
    pictures->albums = sl_mem_alloc(&model->mem, n_seq, sizeof *pictures->albums);
    if (!pictures->kv || !pictures->albums) {
        sl_pictures_free(pictures);
        return SL_ERR_NOMEM;
    }
    const int64_t n_pages = pages_of(keys_most(&hp->vision));
    uint64_t bytes = 0;
    sl_status status = SL_OK;
    for (uint32_t l = 0; status == SL_OK && l < hp->n_layer; l++)
        if (keeps(model, l))
            status = layer_shape(pictures, l, &pictures->kv[l], n_pages, &bytes);
    const encoding most = { .kv = pictures->kv, .n_tile = tiles_of(&hp->vision, hp->vision.max_tiles), .n_keys = keys_most(&hp->vision), .n_kv_pages = n_pages * SL_LIMIT_IMAGES };
    if (status == SL_OK)
        status = sl_plan_make(&pictures->plan, model, encode_pass, &most);
    if (status != SL_OK)
        sl_pictures_free(pictures);
    return status;
}

void sl_pictures_free(sl_pictures *pictures)
{
    const sl_model *model = pictures->model;
    if (!model)
        return;
    for (uint32_t l = 0; pictures->kv && l < model->hp.n_layer; l++)
        sl_kv_layer_free(&pictures->kv[l], model, l);
    for (uint32_t q = 0; pictures->albums && q < pictures->n_seq; q++)
        sl_mem_free(&model->mem, pictures->albums[q].entries);
    sl_plan_free(&pictures->plan);
    sl_mem_free(&model->mem, pictures->albums);
    sl_mem_free(&model->mem, pictures->kv);
    sl_mem_free(&model->mem, pictures->places);
    sl_mem_free(&model->mem, pictures->spans);
    *pictures = (sl_pictures) { 0 };
}

/* Runs the encoder's pass in memory that is held only so long. */
static sl_status encode(sl_pictures *pictures, const encoding *e, const atomic_int *cancel)
{
    const sl_model *model = pictures->model;
    void *arena[SL_MAX_DEVICES] = { 0 };
    sl_status status = SL_OK;
    for (int d = 0; status == SL_OK && d < model->n_devices; d++)
        status = model->devices[d].backend->alloc(model->devices[d].handle, pictures->plan.arena[d], &arena[d]);
    if (status == SL_OK)
        status = sl_plan_run(&pictures->plan, model, arena, encode_pass, e, cancel);
    for (int d = 0; d < model->n_devices; d++)
        if (arena[d])
            model->devices[d].backend->free(model->devices[d].handle, arena[d], pictures->plan.arena[d]);
    return status;
}

/* Room for n entries in an album, and for the spans of all. */
static sl_status grow_album(sl_pictures *pictures, uint32_t seq, size_t n)
{
    size_t all = n;
    for (uint32_t q = 0; q < pictures->n_seq; q++)
        all += q == seq ? 0 : pictures->albums[q].n;
    SL_TRY(sl_mem_grow(&pictures->model->mem, &pictures->spans, 2 * all, sizeof *pictures->spans));
    return sl_mem_grow(&pictures->model->mem, &pictures->albums[seq].entries, n, sizeof *pictures->albums[seq].entries);
}

sl_status sl_pictures_add(sl_pictures *pictures, uint32_t seq, const sl_image *image, const atomic_int *cancel)
{
    const sl_model *model = pictures->model;
    const sl_vision *v = &model->hp.vision;
    if (!v->max_tiles)
        return sl_fail(SL_ERR_UNSUPPORTED, "session: this model takes no pictures%s%s", *model->layout.sentence ? ": " : "", model->layout.sentence);
    const uint64_t start = sl_clock_ns();
    sl_album *album = &pictures->albums[seq];
    SL_TRY(close_holes(pictures));
    if (pictures->n == SL_LIMIT_IMAGES)
        return sl_fail(SL_ERR_LIMIT, "session: more than %d pictures", SL_LIMIT_IMAGES);
    SL_TRY(grow_album(pictures, seq, album->n + 1));
    const int64_t first_page = end_page(pictures);
    inputs in;
    int32_t n_tile = 0;
    uint64_t clock[3] = { 0 };
    sl_status status = inputs_make(&in, &model->mem, v, image, first_page * SL_PAGE_KEYS, first_page + pages_of(keys_most(v)), &n_tile);
    const int64_t n_keys = keys_of(v, n_tile), n_pages = first_page + pages_of(n_keys);
    if (status == SL_OK)
        status = grow(pictures, n_pages);
    const encoding e = { .kv = pictures->kv, .patches = in.arrays[PATCHES], .arrangement = &in.arrangement, .spans = in.arrays[SPANS], .ranges = in.arrays[RANGES],
                         .positions = in.arrays[POSITIONS], .key_positions = in.arrays[KEY_POSITIONS], .pages = in.arrays[PAGES], .n_tile = tiles_of(v, n_tile),
                         .first_key = first_page * SL_PAGE_KEYS, .n_keys = n_keys, .n_kv_pages = n_pages, .clock = clock };
    if (status == SL_OK)
        status = encode(pictures, &e, cancel);
    inputs_free(&in, &model->mem);
    if (status != SL_OK)
        return status;
    album->entries[album->n++] = (sl_album_entry) { pictures->n, 0 };
    pictures->places[pictures->n++] = (sl_picture_place) { first_page * SL_PAGE_KEYS, n_keys, 1 };
    pictures->n_encoded++;
    pictures->busy_ns += sl_clock_ns() - start;
    pictures->encode_ns += clock[1] - clock[0];
    pictures->keys_ns += clock[2] - clock[1];
    return SL_OK;
}

size_t sl_pictures_count(const sl_pictures *pictures, uint32_t seq) { return pictures->albums ? pictures->albums[seq].n : 0; }

/* Tokens that a picture has. */
static int64_t tokens_of(const sl_pictures *pictures, size_t picture) { return pictures->model->hp.vision.n_vector ? pictures->places[picture].n_keys : 1; }

size_t sl_pictures_waiting(const sl_pictures *pictures, uint32_t seq)
{
    const sl_album *album = pictures->albums ? &pictures->albums[seq] : NULL;
    size_t n = 0;
    for (size_t e = album ? album->n_placed : 0; album && e < album->n; e++)
        n += (size_t)tokens_of(pictures, album->entries[e].picture);
    if (album && album->n_placed)
        n += (size_t)(tokens_of(pictures, album->entries[album->n_placed - 1].picture) - album->n_used);
    return n;
}

/* Image tokens in the last of the first n entries: of the tokens from its position on. */
static int64_t count_used(const sl_pictures *pictures, const sl_album *album, size_t n, const int32_t *tokens, size_t length)
{
    const int32_t token = pictures->model->hp.vision.token;
    int64_t used = 0;
    if (!n)
        return 0;
    const int64_t most = tokens_of(pictures, album->entries[n - 1].picture);
    for (size_t i = album->entries[n - 1].position; i < length && used < most; i++)
        used += tokens[i] == token;
    return used;
}

void sl_pictures_unplace(sl_pictures *pictures, uint32_t seq, const int32_t *tokens, size_t length)
{
    sl_album *album = pictures->albums ? &pictures->albums[seq] : NULL;
    if (!album)
        return;
    while (album->n_placed && album->entries[album->n_placed - 1].position >= length)
        album->n_placed--;
    album->n_used = count_used(pictures, album, album->n_placed, tokens, length);
}

void sl_pictures_release(sl_pictures *pictures, size_t picture)
{
    pictures->places[picture].n_holders--;
    while (pictures->n && !pictures->places[pictures->n - 1].n_holders)
        pictures->n--;
}

/* Lets go of entries [first, end) of an album; the others close up. */
static void drop(sl_pictures *pictures, sl_album *album, size_t first, size_t end)
{
    for (size_t e = end; e-- > first;)
        sl_pictures_release(pictures, album->entries[e].picture);
    memmove(album->entries + first, album->entries + end, (album->n - end) * sizeof *album->entries);
    album->n -= end - first;
}

void sl_pictures_forget(sl_pictures *pictures, uint32_t seq, const int32_t *tokens, size_t length, int waiting)
{
    sl_album *album = pictures->albums ? &pictures->albums[seq] : NULL;
    if (!album || !album->n)
        return;
    const size_t placed = album->n_placed;
    sl_pictures_unplace(pictures, seq, tokens, length);
    drop(pictures, album, album->n_placed, waiting ? album->n : placed);
}

sl_status sl_pictures_adopt(sl_pictures *pictures, int64_t n_keys, size_t *picture)
{
    SL_TRY(close_holes(pictures));
    if (pictures->n == SL_LIMIT_IMAGES)
        return sl_fail(SL_ERR_LIMIT, "session: more than %d pictures", SL_LIMIT_IMAGES);
    const int64_t first_page = end_page(pictures);
    SL_TRY(grow(pictures, first_page + pages_of(n_keys)));
    *picture = pictures->n++;
    pictures->places[*picture] = (sl_picture_place) { first_page * SL_PAGE_KEYS, n_keys, 1 };
    return SL_OK;
}

sl_status sl_pictures_attach(sl_pictures *pictures, uint32_t seq, size_t picture, int placed, size_t position)
{
    sl_album *album = &pictures->albums[seq];
    SL_TRY(grow_album(pictures, seq, album->n + 1));
    album->entries[album->n++] = (sl_album_entry) { picture, position };
    album->n_placed += placed != 0;
    album->n_used = album->n_placed > 0;
    pictures->places[picture].n_holders++;
    return SL_OK;
}

sl_status sl_pictures_copy(sl_pictures *pictures, uint32_t from, uint32_t to, const int32_t *tokens, size_t length)
{
    if (!pictures->albums)
        return SL_OK;
    const sl_album *source = &pictures->albums[from];
    sl_album *target = &pictures->albums[to];
    size_t n = 0;
    while (n < source->n_placed && source->entries[n].position < length)
        n++;
    SL_TRY(grow_album(pictures, to, n > target->n ? n : target->n));
    for (size_t e = 0; e < n; e++)
        pictures->places[source->entries[e].picture].n_holders++;
    drop(pictures, target, 0, target->n);
    if (n)
        memcpy(target->entries, source->entries, n * sizeof *target->entries);
    target->n = target->n_placed = n;
    target->n_used = count_used(pictures, target, n, tokens, length);
    return SL_OK;
}

/* ---- who sees what ---- */

/* What the tokens to come see: pictures run .. placed - 1, those whose tokens stand side by side. The spans of all that the album has go into the list. */
static void open_album(sl_pictures *pictures, sl_album *album)
{
    const sl_album_entry *entries = album->entries;
    album->placed = album->run = album->n_placed;
    album->used = album->n_used;
    while (album->run > 1 && entries[album->run - 1].position == entries[album->run - 2].position + 1)
        album->run--;
    album->run -= album->run > 0;
    album->first_span = pictures->n_spans;
    for (size_t e = 0; e < album->n; e++) {
        const sl_picture_place *place = &pictures->places[entries[e].picture];
        pictures->spans[2 * pictures->n_spans] = (int32_t)place->first_key;
        pictures->spans[2 * pictures->n_spans++ + 1] = (int32_t)(place->first_key + place->n_keys);
    }
}

/* The next vector takes the place of the token at `position`: 1 + its row. */
static int32_t use_vector(const sl_pictures *pictures, sl_album *a, size_t position)
{
    if (!a->placed || a->used == tokens_of(pictures, a->entries[a->placed - 1].picture)) {
        a->entries[a->placed++].position = position;
        a->used = 0;
    }
    return (int32_t)(pictures->places[a->entries[a->placed - 1].picture].first_key + a->used++) + 1;
}

int sl_pictures_look(sl_pictures *pictures, const sl_looking *looking, int32_t *ranges, int32_t *marks)
{
    const int replace = pictures->model->hp.vision.n_vector > 0;
    const int32_t token = pictures->model->hp.vision.token;
    int any = 0;
    pictures->n_spans = 0;
    if (!pictures->n)
        return 0;
    for (size_t i = 0; i < looking->n_seq; i++)
        open_album(pictures, &pictures->albums[looking->seqs[i]]);
    for (size_t i = 0; i < looking->n; i++) {
        sl_album *a = &pictures->albums[looking->seqs[looking->rows[i]]];
        const size_t position = (size_t)looking->positions[i];
        if (replace) {
            ranges[2 * i] = ranges[2 * i + 1] = 0;
            marks[i] = looking->ids[i] == token ? use_vector(pictures, a, position) : 0;
            any |= marks[i] != 0;
            continue;
        }
        if (looking->ids[i] == token) {
            if (!a->placed || a->entries[a->placed - 1].position + 1 != position)
                a->run = a->placed;
            a->entries[a->placed++].position = position;
        }
        ranges[2 * i] = (int32_t)(a->first_span + a->run);
        ranges[2 * i + 1] = (int32_t)(a->first_span + a->placed);
        marks[i] = a->placed > a->run;
        any |= marks[i];
    }
    return any;
}

void sl_pictures_looked(sl_pictures *pictures, const uint32_t *seqs, size_t n_seq)
{
    for (size_t i = 0; pictures->n && i < n_seq; i++) {
        sl_album *a = &pictures->albums[seqs[i]];
        a->n_placed = a->placed;
        a->n_used = pictures->model->hp.vision.n_vector ? a->used : a->n_placed > 0;
    }
}

sl_work_sight sl_pictures_sight(const sl_pictures *pictures, const int32_t *ranges, const int32_t *marks)
{
    return (sl_work_sight) { .kv = pictures->kv, .n_spans = ranges ? (int64_t)pictures->n_spans : (int64_t)SL_LIMIT_IMAGES * pictures->n_seq, .spans = pictures->spans,
                             .ranges = ranges, .marks = marks };
}
