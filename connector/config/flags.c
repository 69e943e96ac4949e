/*
 * flags.c - the command line and the environment as texts by setting.
 *
 * Flags: --name=value, --name value, one dash or two; a boolean stands alone or takes "=value" (never
 * the next word: "--self-scrape false" would be ambiguous). Given twice, the last one wins.
 * Environment: any PROMSCALE_ variable that is no setting is an error, since a misspelt one would
 * otherwise be ignored in silence; an empty one counts as not set.
 */
#include "connector/config/table.h"

#include <string.h>

/* The nearest name by edit distance, for "did you mean". NULL if nothing is near. */
static const char *
nearest(ps_str name)
{
    size_t best = 4; /* at most 3 edits */
    const char *ret = NULL;

    if (name.len == 0 || name.len > 63)
        return NULL;
    for (size_t k = 0; k < settings_count; k++) {
        const char *other = settings_table[k].name;
        size_t n = strlen(other), row[64];
        for (size_t j = 0; j <= name.len; j++)
            row[j] = j;
        for (size_t i = 1; i <= n; i++) {
            size_t diagonal = row[0];
            row[0] = i;
            for (size_t j = 1; j <= name.len; j++) {
                size_t up = row[j], d = diagonal + (other[i - 1] != name.ptr[j - 1]);
                if (up + 1 < d)
                    d = up + 1;
                if (row[j - 1] + 1 < d)
                    d = row[j - 1] + 1;
                diagonal = up;
                row[j] = d;
            }
        }
        if (row[name.len] < best) {
            best = row[name.len];
            ret = other;
        }
    }
    return ret;
}

static ps_status
unknown_flag(ps_str name, ps_err *err)
{
    const char *hint = nearest(name);
    int len = (int)(name.len < 64 ? name.len : 64);

    if (hint != NULL)
        return ps_fail(err, PS_EINVAL, "unknown flag --%.*s (did you mean --%s?)", len, name.ptr,
                       hint);
    return ps_fail(err, PS_EINVAL, "unknown flag --%.*s (--help lists all)", len, name.ptr);
}

/* True if the flag asks for text instead of a run. */
static ps_status
print_request(ps_str name, const char *value, settings_request *ret, ps_err *err)
{
    bool help = ps_str_eq_c(name, "help") || ps_str_eq_c(name, "h");

    if (!help && !ps_str_eq_c(name, "version"))
        return PS_OK;
    if (help && value != NULL && strcmp(value, "markdown") == 0)
        *ret = REQUEST_MARKDOWN;
    else if (value != NULL)
        return ps_fail(err, PS_EINVAL, "--%.*s takes no value", (int)name.len, name.ptr);
    else
        *ret = help ? REQUEST_HELP : REQUEST_VERSION;
    return PS_OK;
}

ps_status
settings_read_flags(int argc, char *const *argv, setting_source *src, settings_request *ret_request,
                    int *ret_rest, ps_err *err)
{
    int i = 0;

    *ret_request = REQUEST_RUN;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || arg[1] == 0)
            return ps_fail(
                err, PS_EINVAL,
                "unexpected argument \"%.80s\" (flags start with --; a boolean is switched off with "
                "--name=false)",
                arg);
        const char *begin = arg + (arg[1] == '-' ? 2 : 1), *eq = strchr(begin, '=');
        ps_str name = {begin, eq ? (size_t)(eq - begin) : strlen(begin)};
        PS_TRY(print_request(name, eq ? eq + 1 : NULL, ret_request, err));
        if (*ret_request != REQUEST_RUN)
            return PS_OK;
        int index = setting_find(name);
        if (index < 0)
            return unknown_flag(name, err);
        ps_str value = PS_STR("true");
        if (eq != NULL) {
            value = ps_str_c(eq + 1);
        } else if (settings_table[index].kind != SETTING_BOOL) {
            if (i + 1 >= argc)
                return ps_fail(err, PS_EINVAL, "--%s needs a value (--%s=%s)",
                               settings_table[index].name, settings_table[index].name,
                               settings_table[index].operand);
            value = ps_str_c(argv[++i]);
        }
        PS_TRY(setting_source_put(src, index, value, 0, err));
    }
    *ret_rest = i < argc ? i + 1 : argc;
    return PS_OK;
}

/*
 * Kubernetes gives every container variables for the services of its namespace: a service called
 * "promscale" makes PROMSCALE_SERVICE_HOST, PROMSCALE_PORT_9201_TCP_ADDR and so on.
 */
static bool
is_service_link(const char *name, size_t len)
{
    static const char *const ends[] = {"_SERVICE_HOST", "_SERVICE_PORT", "_PORT",     "_TCP",
                                       "_UDP",          "_TCP_ADDR",     "_TCP_PORT", "_TCP_PROTO",
                                       "_UDP_ADDR",     "_UDP_PORT",     "_UDP_PROTO"};
    static const char service_port[] = "_SERVICE_PORT_";

    for (size_t i = 0; i < PS_ARRAY_LEN(ends); i++) {
        size_t n = strlen(ends[i]);
        if (len > n && memcmp(name + len - n, ends[i], n) == 0)
            return true;
    }
    return memmem(name, len, service_port, sizeof(service_port) - 1) != NULL;
}

ps_status
settings_read_env(char *const *envp, setting_source *src, ps_err *err)
{
    static const char prefix[] = "PROMSCALE_";

    for (; envp != NULL && *envp != NULL; envp++) {
        const char *eq = strchr(*envp, '=');
        if (eq == NULL || strncmp(*envp, prefix, sizeof(prefix) - 1) != 0 || eq[1] == 0)
            continue;
        size_t len = (size_t)(eq - *envp);
        int index = -1;
        for (size_t k = 0; k < settings_count && index < 0; k++) {
            char name[96];
            setting_env_name(&settings_table[k], name, sizeof(name));
            if (strlen(name) == len && memcmp(name, *envp, len) == 0)
                index = (int)k;
        }
        if (index >= 0)
            PS_TRY(setting_source_put(src, index, ps_str_c(eq + 1), 0, err));
        else if (!is_service_link(*envp, len))
            return ps_fail(err, PS_EINVAL,
                           "environment variable %.*s is no setting (--help lists all)",
                           (int)(len < 80 ? len : 80), *envp);
    }
    return PS_OK;
}
