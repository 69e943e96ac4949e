/*
 * labels.c - label sets: one canonical order, one notion of "valid".
 *
 * Whatever a client sends becomes a sorted list of unique names here, before anything is hashed,
 * stored or compared. Both slices of every label borrow the message that they came in; sorting
 * moves only the slices. Senders nearly always sort already, so order is tested first; label counts
 * come from the network, so the sort must be good in the worst case (heapsort: in place, no
 * recursion).
 */
#include "lib/model/model.h"

enum { SHOWN_NAME_BYTES = 64, INSERTION_SORT_MAX = 24 };

/* ---- order -------------------------------------------------------------------------------- */

static bool
is_sorted(const mdl_label *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (ps_str_cmp(items[i - 1].name, items[i].name) > 0)
            return false;
    }
    return true;
}

static void
insertion_sort(mdl_label *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        mdl_label moving = items[i];
        size_t at = i;
        for (; at > 0 && ps_str_cmp(items[at - 1].name, moving.name) > 0; at--)
            items[at] = items[at - 1];
        items[at] = moving;
    }
}

static void
sift_down(mdl_label *items, size_t root, size_t n)
{
    mdl_label moving = items[root];
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && ps_str_cmp(items[child].name, items[child + 1].name) < 0)
            child++;
        if (ps_str_cmp(moving.name, items[child].name) >= 0)
            break;
        items[root] = items[child];
    }
    items[root] = moving;
}

static void
heap_sort(mdl_label *items, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(items, i, n);
    for (size_t last = n; last-- > 1;) {
        mdl_label largest = items[0];
        items[0] = items[last];
        items[last] = largest;
        sift_down(items, 0, last);
    }
}

static void
sort_labels(mdl_label *items, size_t n)
{
    if (is_sorted(items, n))
        return;
    if (n <= INSERTION_SORT_MAX)
        insertion_sort(items, n);
    else
        heap_sort(items, n);
}

/* ---- checks ------------------------------------------------------------------------------- */

static bool
has_nul(ps_str s)
{
    return s.len > 0 && memchr(s.ptr, '\0', s.len) != NULL;
}

/* Whether all bytes are ASCII and none is NUL: nearly every label is, and needs no closer look. */
static bool
is_plain(ps_str s)
{
    const uint64_t high = UINT64_C(0x8080808080808080);
    size_t i = 0;
    for (; i + 8 <= s.len; i += 8) {
        uint64_t w = ps_get_u64le(s.ptr + i);
        /* subtracting one from each byte sets the high bit of the lowest zero byte */
        if (((w | (w - UINT64_C(0x0101010101010101))) & high) != 0)
            return false;
    }
    for (; i < s.len; i++) {
        if (s.ptr[i] == '\0' || ((unsigned char)s.ptr[i] & 0x80) != 0)
            return false;
    }
    return true;
}

/* For "%.*s": a name that has passed the UTF-8 check, cut to a readable length. */
static int
shown(ps_str name)
{
    return (int)ps_utf8_prefix(name, SHOWN_NAME_BYTES);
}

static ps_status
check_label(const mdl_label *label, const mdl_label_limits *limits, ps_err *err)
{
    ps_str name = label->name;
    ps_str value = label->value;
    if (name.len == 0)
        return ps_fail(err, PS_EINVAL, "a label name is empty");
    if (limits->max_name_bytes != 0 && name.len > limits->max_name_bytes)
        return ps_fail(err, PS_ELIMIT, "a label name has %zu bytes, the limit is %u", name.len,
                       limits->max_name_bytes);
    bool plain_name = is_plain(name);
    if (!plain_name && !ps_utf8_valid(name))
        return ps_fail(err, PS_EINVAL, "a label name is not valid UTF-8");
    if (!plain_name && has_nul(name))
        return ps_fail(err, PS_EINVAL, "a label name contains a NUL byte");
    if (limits->max_value_bytes != 0 && value.len > limits->max_value_bytes)
        return ps_fail(err, PS_ELIMIT, "the value of label \"%.*s\" has %zu bytes, the limit is %u",
                       shown(name), name.ptr, value.len, limits->max_value_bytes);
    if (is_plain(value))
        return PS_OK;
    if (!ps_utf8_valid(value))
        return ps_fail(err, PS_EINVAL, "the value of label \"%.*s\" is not valid UTF-8",
                       shown(name), name.ptr);
    if (has_nul(value))
        return ps_fail(err, PS_EINVAL, "the value of label \"%.*s\" contains a NUL byte",
                       shown(name), name.ptr);
    return PS_OK;
}

static ps_status
check_set(const mdl_label *items, size_t n, const mdl_label_limits *limits, ps_err *err)
{
    size_t bytes = 0;
    bool named = false;
    for (size_t i = 0; i < n; i++) {
        PS_TRY(check_label(&items[i], limits, err));
        if (i > 0 && ps_str_eq(items[i - 1].name, items[i].name))
            return ps_fail(err, PS_EINVAL, "label name \"%.*s\" occurs more than once",
                           shown(items[i].name), items[i].name.ptr);
        named |= ps_str_eq(items[i].name, PS_STR(MDL_METRIC_NAME));
        bytes += items[i].name.len + items[i].value.len;
    }
    if (!named)
        return ps_fail(err, PS_EINVAL, "the metric name (label __name__) is missing or empty");
    if (limits->max_set_bytes != 0 && bytes > limits->max_set_bytes)
        return ps_fail(err, PS_ELIMIT, "the labels have %zu bytes together, the limit is %u", bytes,
                       limits->max_set_bytes);
    return PS_OK;
}

ps_status
mdl_labels_canonical(mdl_label *items, size_t n, const mdl_label_limits *limits, size_t *ret_n,
                     ps_err *err)
{
    static const mdl_label_limits no_limits = {0};
    size_t kept = 0;
    if (limits == NULL)
        limits = &no_limits;
    for (size_t i = 0; i < n; i++) {
        if (items[i].value.len > 0)
            items[kept++] = items[i];
    }
    if (kept == 0)
        return ps_fail(err, PS_EINVAL, "the label set is empty");
    if (limits->max_labels != 0 && kept > limits->max_labels)
        return ps_fail(err, PS_ELIMIT, "the series has %zu labels, the limit is %u", kept,
                       limits->max_labels);
    sort_labels(items, kept);
    PS_TRY(check_set(items, kept, limits, err));
    *ret_n = kept;
    return PS_OK;
}

/* Sets are small; a linear search that stops at the place is as good as any other. */
ps_str
mdl_labels_get(mdl_labels labels, ps_str name)
{
    for (size_t i = 0; i < labels.n; i++) {
        int order = ps_str_cmp(labels.items[i].name, name);
        if (order == 0)
            return labels.items[i].value;
        if (order > 0)
            break;
    }
    return (ps_str){NULL, 0};
}

int
mdl_labels_cmp(mdl_labels a, mdl_labels b)
{
    for (size_t i = 0; i < a.n && i < b.n; i++) {
        int c = ps_str_cmp(a.items[i].name, b.items[i].name);
        if (c == 0)
            c = ps_str_cmp(a.items[i].value, b.items[i].value);
        if (c != 0)
            return c;
    }
    return (a.n > b.n) - (a.n < b.n);
}

bool
mdl_labels_eq(mdl_labels a, mdl_labels b)
{
    return a.n == b.n && mdl_labels_cmp(a, b) == 0;
}
