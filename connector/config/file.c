/*
 * file.c - the YAML file: scalars under dotted or nested keys, nothing else.
 *
 *     web:                                web.listen-address: 127.0.0.1:9201
 *       listen-address: 127.0.0.1:9201
 *
 * Both spellings name the same setting, so giving both is an error, as is any key that is no setting.
 * Lists, aliases, several documents and null values are refused: a file that says something which is
 * not understood must not start the program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "connector/config/table.h"

enum { FILE_MAX_BYTES = 1 << 20, MAX_DEPTH = 8, MAX_KEY = 128 };

typedef struct file_reader {
    yaml_parser_t parser;
    setting_source *src;
    ps_err *err;
    char key[MAX_KEY];         /* "web.listen-address" so far */
    size_t key_len[MAX_DEPTH]; /* its length at each depth */
    size_t depth;              /* of open mappings */
} file_reader;

static ps_status
fail_at(file_reader *r, const yaml_event_t *event, const char *what)
{
    return ps_fail(r->err, PS_EINVAL, "%s:%zu: %s", r->src->file, event->start_mark.line + 1, what);
}

static ps_status
next_event(file_reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return PS_OK;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return ps_fail(r->err, PS_ENOMEM, "no memory to read %s", r->src->file);
    return ps_fail(r->err, PS_EINVAL, "%s:%zu: not YAML: %s", r->src->file,
                   r->parser.problem_mark.line + 1,
                   r->parser.problem ? r->parser.problem : "unknown problem");
}

static ps_status
push_key(file_reader *r, const yaml_event_t *event)
{
    ps_str word = {(const char *)event->data.scalar.value, event->data.scalar.length};
    size_t len = r->key_len[r->depth - 1];

    if (word.len == 0 || memchr(word.ptr, 0, word.len) != NULL ||
        len + word.len + 2 > sizeof(r->key))
        return fail_at(r, event, "this key is no setting");
    if (len > 0)
        r->key[len++] = '.';
    memcpy(r->key + len, word.ptr, word.len);
    len += word.len;
    r->key[len] = 0;
    r->key_len[r->depth] = len;
    return PS_OK;
}

static ps_status
set_value(file_reader *r, const yaml_event_t *event, size_t key_line)
{
    ps_str name = {r->key, r->key_len[r->depth]};
    ps_str text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    int index = setting_find(name);

    if (index < 0)
        return ps_fail(r->err, PS_EINVAL, "%s:%zu: unknown setting %.*s", r->src->file, key_line,
                       (int)name.len, name.ptr);
    if (strcmp(settings_table[index].name, "config") == 0)
        return ps_fail(r->err, PS_EINVAL, "%s:%zu: config cannot be set in the file itself",
                       r->src->file, key_line);
    if (!quoted && (text.len == 0 || ps_str_eq_c(text, "~") || ps_str_eq_c(text, "null")))
        return ps_fail(r->err, PS_EINVAL, "%s:%zu: %.*s has no value", r->src->file, key_line,
                       (int)name.len, name.ptr);
    return setting_source_put(r->src, index, text, (unsigned)key_line, r->err);
}

/* One key of the innermost open mapping, its scalar, or the opening of a nested mapping. */
static ps_status
read_pair(file_reader *r, const yaml_event_t *key_event)
{
    size_t key_line = key_event->start_mark.line + 1;
    yaml_event_t event;

    if (key_event->type != YAML_SCALAR_EVENT)
        return fail_at(r, key_event, "a key must be plain text");
    PS_TRY(push_key(r, key_event));
    PS_TRY(next_event(r, &event));
    ps_status st = PS_OK;
    if (event.type == YAML_SCALAR_EVENT)
        st = set_value(r, &event, key_line);
    else if (event.type == YAML_MAPPING_START_EVENT && r->depth + 1 < MAX_DEPTH)
        r->depth++;
    else if (event.type == YAML_MAPPING_START_EVENT)
        st = fail_at(r, &event, "nested too deep");
    else
        st =
            fail_at(r, &event, "a value must be a single word, number or text (no list, no alias)");
    yaml_event_delete(&event);
    return st;
}

static ps_status
read_document(file_reader *r)
{
    unsigned documents = 0;
    bool end = false;

    while (!end) {
        yaml_event_t event;
        PS_TRY(next_event(r, &event));
        ps_status st = PS_OK;
        switch (event.type) {
        case YAML_STREAM_END_EVENT:
            end = true;
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (++documents > 1)
                st = fail_at(r, &event, "a second document in one file");
            break;
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
        case YAML_NO_EVENT:
            break;
        case YAML_MAPPING_END_EVENT:
            r->depth--;
            break;
        case YAML_MAPPING_START_EVENT:
            /* Nested ones are opened by read_pair: at depth 0 this is the top of the document. */
            st = r->depth == 0 ? PS_OK : fail_at(r, &event, "a key must be plain text");
            r->depth = r->depth == 0 ? 1 : r->depth;
            break;
        default:
            if (r->depth > 0)
                st = read_pair(r, &event);
            else if (event.type != YAML_SCALAR_EVENT || event.data.scalar.length > 0)
                st = fail_at(r, &event,
                             "expected \"key: value\" lines"); /* a file of comments only is fine */
            break;
        }
        yaml_event_delete(&event);
        PS_TRY(st);
    }
    return PS_OK;
}

static ps_status
check_size(FILE *f, const char *path, ps_err *err)
{
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;

    if (size > FILE_MAX_BYTES)
        return ps_fail(err, PS_ELIMIT, "%s is larger than 1 MB: not a settings file", path);
    if (size >= 0)
        rewind(f);
    return PS_OK;
}

ps_status
settings_read_file(const char *path, setting_source *src, ps_err *err)
{
    file_reader r = {.src = src, .err = err};
    FILE *f = fopen(path, "re");

    src->file = path;
    if (f == NULL)
        return ps_fail(err, PS_EINVAL, "cannot read the settings file %s: %s", path,
                       strerror(errno));
    ps_status st = check_size(f, path, err);
    if (st == PS_OK && !yaml_parser_initialize(&r.parser))
        st = ps_fail(err, PS_ENOMEM, "no memory to read %s", path);
    if (st == PS_OK) {
        yaml_parser_set_input_file(&r.parser, f);
        st = read_document(&r);
        yaml_parser_delete(&r.parser);
    }
    fclose(f);
    return st;
}
