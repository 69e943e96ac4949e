"""Requests to /api/v1 that cannot be answered, and what each is told: status, errorType, text. Data for
test_bad_requests.py.

The answers are those of Prometheus 3.14 (`since`: an older one says something else), except where `differs` gives
the reason and Prometheus's own answer (None: not compared; a text of None: any).
Paths are below /api/v1/. Bodies of POST are forms unless headers say otherwise.
"""
import collections

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# (status, errorType, text); errorType None: plain text.
NOT_FOUND = (404, None, "404 page not found")
NO_METHOD = (405, None, "method not allowed")
GOOD = (200, None, None)
NO_QUERY = 'invalid parameter "query": unknown position: parse error: no expression found in input'
NO_STEP = ('invalid parameter "step": zero or negative query resolution step widths are not accepted. '
           'Try a positive integer')
TOO_MANY_POINTS = ("exceeded maximum resolution of 11,000 points per timeseries. "
                   "Try decreasing the query resolution (?step=XX)")

Bad = collections.namedtuple("Bad", "method path body headers answer differs since")

PROTOBUF = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
OUR_WORDS = ("the words are ours", (400, None, None))


def bad_data(text):
    return 400, "bad_data", text


def request(method, path, answer, body=None, headers=None, differs=None, since=None):
    return Bad(method, path, body, headers or {}, answer, differs, since)


def get(path, answer, **more):
    return request("GET", path, answer, **more)


def post(path, body, answer, **more):
    return request("POST", path, answer, body=body, headers=FORM, **more)


def protobuf(path, body, answer):
    return request("POST", path, answer, body=body, headers=PROTOBUF, differs=OUR_WORDS)


def otlp(body, headers, answer):
    return request("POST", "otlp/v1/metrics", answer, body=body,
                   headers={"Content-Type": "application/x-protobuf", **headers},
                   differs=("Prometheus takes none unless told by a flag", None))


BAD = [
    # ---- query
    get('query', bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('query?query=',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('query?query=%20', bad_data('invalid parameter "query": 1:1: parse error: no expression found in input')),
    get('query?query=%23x', bad_data('invalid parameter "query": 1:1: parse error: no expression found in input')),
    get('query?query=up%7B',
        bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input inside braces')),
    get('query?query=up%7Ba=b%7D',
        bad_data('invalid parameter "query": 1:6: parse error: unexpected identifier "b" in label matching, '
                 'expected string')),
    get('query?query=sum(', bad_data('invalid parameter "query": 1:5: parse error: unclosed left parenthesis')),
    get('query?query=rate(up)',
        bad_data('invalid parameter "query": 1:6: parse error: expected type range vector in call to function '
                 '"rate", got instant vector')),
    get('query?query=up%5B5m', bad_data('invalid parameter "query": 1:6: parse error: unclosed left bracket')),
    get('query?query=1%2B', bad_data('invalid parameter "query": 1:3: parse error: unexpected end of input')),
    get('query?query=foo%20bar', bad_data('invalid parameter "query": 1:5: parse error: unexpected identifier "bar"')),
    get('query?query=up%7Ba%3D~%22(%22%7D',
        bad_data('invalid parameter "query": 1:4: parse error: error parsing regexp: missing closing ): `(`')),
    get('query?query=%7B%7D',
        bad_data('invalid parameter "query": 1:1: parse error: vector selector must contain at least one non-empty '
                 'matcher')),
    get('query?query=%7Ba%3D%22%22%7D',
        bad_data('invalid parameter "query": 1:1: parse error: vector selector must contain at least one non-empty '
                 'matcher')),
    get('query?query=unknown_function(up)',
        bad_data('invalid parameter "query": 1:1: parse error: unknown function with name "unknown_function"')),
    get('query?query=%22unterminated',
        bad_data('invalid parameter "query": 1:1: parse error: unterminated quoted string')),
    get('query?query=up%5B0s%5D',
        bad_data('invalid parameter "query": 1:4: parse error: duration must be greater than 0')),
    get('query?query=count_values(1,up)',
        bad_data('invalid parameter "query": 1:14: parse error: expected type string in aggregation parameter, got '
                 'scalar')),
    get('query?query=sum(1)',
        bad_data('invalid parameter "query": 1:5: parse error: expected type instant vector in aggregation '
                 'expression, got scalar')),
    get('query?query=vector(up)',
        bad_data('invalid parameter "query": 1:8: parse error: expected type scalar in call to function "vector", '
                 'got instant vector')),
    get('query?query=up&time=x',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "x" to a valid timestamp')),
    get('query?query=up&time=1e400',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "1e400" to a valid '
                 'timestamp')),
    get('query?query=up&time=2026-02-30T00:00:00Z',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "2026-02-30T00:00:00Z" to '
                 'a valid timestamp')),
    get('query?query=up&time=2026-01-01',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "2026-01-01" to a valid '
                 'timestamp')),
    get('query?query=up&time=2026-01-01T00:00:00',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "2026-01-01T00:00:00" to '
                 'a valid timestamp')),
    get('query?query=up&timeout=x', bad_data('invalid parameter "timeout": cannot parse "x" to a valid duration')),
    get('query?query=up&timeout=1h30',
        bad_data('invalid parameter "timeout": cannot parse "1h30" to a valid duration')),
    get('query?query=up&timeout=1e30',
        bad_data('invalid parameter "timeout": cannot parse "1e30" to a valid duration. It overflows int64')),
    get('query?query=up&timeout=-1', (503, 'timeout', 'query timed out in expression evaluation'),
        differs=("one answer for a query that took too long; what Prometheus says depends on where it was", None)),
    get('query?query=up&limit=-1', bad_data('invalid parameter "limit": limit must be non-negative')),
    get('query?query=up&limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax')),
    get('query?query=up&limit=1.5', bad_data('invalid parameter "limit": strconv.Atoi: parsing "1.5": invalid syntax')),
    get('query?query=up&limit=99999999999999999999',
        bad_data('invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range')),
    get('query?query=up&limit=0x10',
        bad_data('invalid parameter "limit": strconv.Atoi: parsing "0x10": invalid syntax')),
    get('query?query=up&lookback_delta=x',
        bad_data('error parsing lookback delta duration: cannot parse "x" to a valid duration')),
    get('query?query=up&lookback_delta=1e20',
        bad_data('error parsing lookback delta duration: cannot parse "1e20" to a valid duration. It overflows int64')),
    get('query?query=%ff', bad_data('invalid parameter "query": 1:1: parse error: unexpected character: \'\ufffd\'')),
    get('query?query=label_replace(vector(1),%22a%22,%22b%22,%22c%22,%22(%22)',
        (422, 'execution', 'invalid regular expression in label_replace(): (')),
    get('query?query=vector(1)%2Bon()vector(1)%2Bon(',
        bad_data('invalid parameter "query": 1:28: parse error: unclosed left parenthesis')),
    get('query?query=up@',
        bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input in @, expected timestamp')),
    get('query?query=up%20@%201e400',
        bad_data('invalid parameter "query": 1:6: parse error: error parsing number: strconv.ParseFloat: parsing '
                 '"1e400": value out of range')),
    get('query?query=0x',
        bad_data('invalid parameter "query": 1:1: parse error: error parsing number: strconv.ParseFloat: parsing '
                 '"0x": invalid syntax')),
    get('query?query=1w1y',
        bad_data('invalid parameter "query": 1:1: parse error: bad number or duration syntax: "1w1"')),
    get('query?query=__name__%7Ba=%22b%22,%7D%7D',
        bad_data('invalid parameter "query": 1:17: parse error: unexpected character: \'}\'')),
    get('query?query=histogram_quantile(0.9)',
        bad_data('invalid parameter "query": 1:1: parse error: expected 2 argument(s) in call to '
                 '"histogram_quantile", got 1')),
    get('query?query=topk(up)',
        bad_data('invalid parameter "query": 1:1: parse error: wrong number of arguments for aggregate expression '
                 'provided, expected 2, got 1')),
    get('query?query=a%20and%201',
        bad_data('invalid parameter "query": 1:1: parse error: set operator "and" not allowed in binary scalar '
                 'expression')),
    get('query?query=a%20==%20bool', bad_data('invalid parameter "query": 1:10: parse error: unexpected end of input')),
    get('query?query=-%22a%22',
        bad_data('invalid parameter "query": 1:1: parse error: unary expression only allowed on expressions of type '
                 'scalar or instant vector, got "string"')),
    post('query', '',
         bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    post('query', 'query=',
         bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    post('query', 'query=up%7B',
         bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input inside braces')),
    post('query', 'query=up&time=x',
         bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "x" to a valid timestamp')),
    post('query', 'query=1&limit=-1', bad_data('invalid parameter "limit": limit must be non-negative')),
    post('query?query=1&time=0', 'time=x',
         bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "x" to a valid timestamp')),
    request('POST', 'query',
            bad_data('invalid parameter "query": unknown position: parse error: no expression found in input'),
            body='{"query":"1"}', headers={'Content-Type': 'application/json'}),
    request('POST', 'query',
            bad_data('invalid parameter "query": unknown position: parse error: no expression found in input'),
            body='query=1', headers={'Content-Type': 'text/plain'}),
    request('POST', 'query',
            bad_data('invalid parameter "query": unknown position: parse error: no expression found in input'),
            body='query=1'),
    request('POST', 'query',
            bad_data('invalid parameter "query": 1:4: parse error: unclosed left parenthesis'),
            body='query=up(', headers={'Content-Type': 'Application/X-WWW-Form-Urlencoded'}),
    request('POST', 'query',
            bad_data('invalid parameter "query": unknown position: parse error: no expression found in input'),
            body='query=1', headers={'Content-Type': 'nonsense/'}),
    # ---- query_range
    get('query_range', bad_data('invalid parameter "start": cannot parse "" to a valid timestamp')),
    get('query_range?query=up', bad_data('invalid parameter "start": cannot parse "" to a valid timestamp')),
    get('query_range?query=up&start=0', bad_data('invalid parameter "end": cannot parse "" to a valid timestamp')),
    get('query_range?query=up&start=0&end=10',
        bad_data('invalid parameter "step": cannot parse "" to a valid duration')),
    get('query_range?query=up&start=x&end=10&step=1',
        bad_data('invalid parameter "start": cannot parse "x" to a valid timestamp')),
    get('query_range?query=up&start=0&end=x&step=1',
        bad_data('invalid parameter "end": cannot parse "x" to a valid timestamp')),
    get('query_range?query=up&start=10&end=0&step=1',
        bad_data('invalid parameter "end": end timestamp must not be before start time')),
    get('query_range?query=up&start=0&end=10&step=0',
        bad_data('invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a '
                 'positive integer')),
    get('query_range?query=up&start=0&end=10&step=-1',
        bad_data('invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a '
                 'positive integer')),
    get('query_range?query=up&start=0&end=10&step=x',
        bad_data('invalid parameter "step": cannot parse "x" to a valid duration')),
    get('query_range?query=up&start=0&end=10&step=1e30',
        bad_data('invalid parameter "step": cannot parse "1e30" to a valid duration. It overflows int64')),
    get('query_range?query=up&start=0&end=11001&step=1',
        bad_data('exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution '
                 '(?step=XX)')),
    get('query_range?query=up&start=0&end=1e10&step=1ms',
        bad_data('exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution '
                 '(?step=XX)')),
    get('query_range?start=0&end=10&step=1',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('query_range?query=up%5B5m%5D&start=0&end=10&step=1',
        bad_data('invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar '
                 'or instant Vector')),
    get('query_range?query=%22s%22&start=0&end=10&step=1',
        bad_data('invalid parameter "query": invalid expression type "string" for range query, must be Scalar or '
                 'instant Vector')),
    get('query_range?query=up&start=0&end=10&step=1&limit=-5',
        bad_data('invalid parameter "limit": limit must be non-negative')),
    get('query_range?query=up&start=0&end=10&step=1&timeout=abc',
        bad_data('invalid parameter "timeout": cannot parse "abc" to a valid duration')),
    get('query_range?query=up&start=0&end=10&step=1&lookback_delta=-',
        bad_data('error parsing lookback delta duration: cannot parse "-" to a valid duration')),
    get('query_range?query=up(&start=0&end=10&step=1',
        bad_data('invalid parameter "query": 1:4: parse error: unclosed left parenthesis')),
    get('query_range?query=up&start=&end=&step=',
        bad_data('invalid parameter "start": cannot parse "" to a valid timestamp')),
    get('query_range?query=up&start=0&end=10&step=5m5',
        bad_data('invalid parameter "step": cannot parse "5m5" to a valid duration')),
    post('query_range', 'query=up&start=0&end=10&step=0',
         bad_data('invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a '
                  'positive integer')),
    post('query_range', 'query=up', bad_data('invalid parameter "start": cannot parse "" to a valid timestamp')),
    # ---- query_exemplars
    get('query_exemplars', bad_data('unknown position: parse error: no expression found in input')),
    get('query_exemplars?query=', bad_data('unknown position: parse error: no expression found in input')),
    get('query_exemplars?query=up%7B', bad_data('1:4: parse error: unexpected end of input inside braces')),
    get('query_exemplars?query=up&start=x',
        bad_data('invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp')),
    get('query_exemplars?query=up&end=x',
        bad_data('invalid parameter "end": invalid time value for \'end\': cannot parse "x" to a valid timestamp')),
    get('query_exemplars?query=up&start=2&end=1', bad_data('end timestamp must not be before start timestamp')),
    get('query_exemplars?query=1%2B1&start=5&end=4', bad_data('end timestamp must not be before start timestamp')),
    get('query_exemplars?query=up&start=2026-13-01T00:00:00Z',
        bad_data('invalid parameter "start": invalid time value for \'start\': cannot parse "2026-13-01T00:00:00Z" '
                 'to a valid timestamp')),
    get('query_exemplars?query=%7B%7D',
        bad_data('1:1: parse error: vector selector must contain at least one non-empty matcher')),
    post('query_exemplars', 'query=up&start=3&end=2', bad_data('end timestamp must not be before start timestamp')),
    # ---- series
    get('series', bad_data('no match[] parameter provided')),
    get('series?match[]=',
        bad_data('invalid parameter "match[]": unknown position: parse error: unexpected end of input')),
    get('series?match[]=up%7B',
        bad_data('invalid parameter "match[]": 1:4: parse error: unexpected end of input inside braces')),
    get('series?match[]=%7B%7D',
        bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')),
    get('series?match[]=%7Ba%3D%22%22%7D',
        bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')),
    get('series?match[]=%7Ba%3D~%22.*%22%7D',
        bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')),
    get('series?match[]=up&start=x',
        bad_data('invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp')),
    get('series?match[]=up&end=x',
        bad_data('invalid parameter "end": invalid time value for \'end\': cannot parse "x" to a valid timestamp')),
    get('series?match[]=up&limit=-1', bad_data('invalid parameter "limit": limit must be non-negative')),
    get('series?match[]=up&limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax')),
    get('series?match[]=up%5B5m%5D', bad_data('invalid parameter "match[]": 1:3: parse error: unexpected "["')),
    get('series?match[]=up%20offset%205m',
        bad_data('invalid parameter "match[]": 1:4: parse error: unexpected <offset>')),
    get('series?match[]=sum(up)', bad_data('invalid parameter "match[]": 1:4: parse error: unexpected "("')),
    get('series?match[]=1', bad_data('invalid parameter "match[]": 1:1: parse error: unexpected number "1"')),
    get('series?match[]=up&match[]=%7B',
        bad_data('invalid parameter "match[]": 1:2: parse error: unexpected end of input inside braces')),
    get('series?match=up', bad_data('no match[] parameter provided')),
    get('series?match[]=up%7Ba%3D~%22%5B%22%7D',
        bad_data('invalid parameter "match[]": 1:4: parse error: error parsing regexp: missing closing ]: `[`')),
    get('series?match[]=up%20up',
        bad_data('invalid parameter "match[]": 1:4: parse error: unexpected identifier "up"')),
    post('series', '', bad_data('no match[] parameter provided')),
    post('series', 'match[]=%7B%7D',
         bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')),
    post('series?match[]=up', 'match[]=%7B%7D',
         bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')),
    # ---- labels
    get('labels?match[]=%7B', bad_data('1:2: parse error: unexpected end of input inside braces')),
    get('labels?match[]=', bad_data('unknown position: parse error: unexpected end of input')),
    get('labels?match[]=%7B%7D', bad_data('match[] must contain at least one non-empty matcher')),
    get('labels?match[]=%7Ba!~%22.%2B%22%7D', bad_data('match[] must contain at least one non-empty matcher')),
    get('labels?start=x',
        bad_data('invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp')),
    get('labels?end=x',
        bad_data('invalid parameter "end": invalid time value for \'end\': cannot parse "x" to a valid timestamp')),
    get('labels?limit=-1', bad_data('invalid parameter "limit": limit must be non-negative')),
    get('labels?limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax')),
    get('labels?limit=1e3', bad_data('invalid parameter "limit": strconv.Atoi: parsing "1e3": invalid syntax')),
    post('labels', 'limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax')),
    # ---- label/<name>/values
    get('label/job/values?match[]=%7B', bad_data('1:2: parse error: unexpected end of input inside braces')),
    get('label/job/values?match[]=%7B%7D', bad_data('match[] must contain at least one non-empty matcher')),
    get('label/job/values?start=x',
        bad_data('invalid parameter "start": invalid time value for \'start\': cannot parse "x" to a valid timestamp')),
    get('label/job/values?end=x',
        bad_data('invalid parameter "end": invalid time value for \'end\': cannot parse "x" to a valid timestamp')),
    get('label/job/values?limit=-1', bad_data('invalid parameter "limit": limit must be non-negative')),
    get('label/job/values?limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax')),
    get('label/job/values?match[]=', bad_data('unknown position: parse error: unexpected end of input')),
    get('label/%ff/values', bad_data('invalid label name: "\\xff"')),
    get('label/a%ffb/values', bad_data('invalid label name: "a\\xffb"')),
    get('label/U__/values', bad_data('invalid label name: ""')),
    get('label/job', NOT_FOUND),
    get('label/job/names', NOT_FOUND),
    get('label/__name__/values?limit=-2', bad_data('invalid parameter "limit": limit must be non-negative')),
    # ---- metadata
    get('metadata?limit=x', bad_data('limit must be a number')),
    get('metadata?limit=1.5', bad_data('limit must be a number')),
    get('metadata?limit_per_metric=x', bad_data('limit_per_metric must be a number')),
    get('metadata?limit=99999999999999999999', bad_data('limit must be a number')),
    get('metadata?limit_per_metric=1e3', bad_data('limit_per_metric must be a number')),
    get('metadata?metric=x&limit=%20', bad_data('limit must be a number')),
    # ---- targets/metadata
    get('targets/metadata?limit=x', bad_data('limit must be a number')),
    get('targets/metadata?match_target=up%7B',
        bad_data('invalid parameter "match_target": 1:4: parse error: unexpected end of input inside braces')),
    get('targets/metadata?match_target=1',
        bad_data('invalid parameter "match_target": 1:1: parse error: unexpected number "1"')),
    get('targets/metadata?match_target=up%5B5m%5D',
        bad_data('invalid parameter "match_target": 1:3: parse error: unexpected "["')),
    # ---- format_query
    get('format_query',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('format_query?query=',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('format_query?query=up%7B',
        bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input inside braces')),
    get('format_query?query=sum(', bad_data('invalid parameter "query": 1:5: parse error: unclosed left parenthesis')),
    get('format_query?query=%ff',
        bad_data('invalid parameter "query": 1:1: parse error: unexpected character: \'\ufffd\'')),
    get('format_query?query=1%20%2B', bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input')),
    post('format_query', 'query=up(',
         bad_data('invalid parameter "query": 1:4: parse error: unclosed left parenthesis')),
    # ---- parse_query
    get('parse_query',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('parse_query?query=',
        bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    get('parse_query?query=up%7B',
        bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input inside braces')),
    get('parse_query?query=rate(up)',
        bad_data('invalid parameter "query": 1:6: parse error: expected type range vector in call to function '
                 '"rate", got instant vector')),
    get('parse_query?query=%20', bad_data('invalid parameter "query": 1:1: parse error: no expression found in input')),
    get('parse_query?query=foo%20bar',
        bad_data('invalid parameter "query": 1:5: parse error: unexpected identifier "bar"')),
    post('parse_query', 'query=',
         bad_data('invalid parameter "query": unknown position: parse error: no expression found in input')),
    # ---- rules
    get('rules?type=x', bad_data('invalid parameter "type": not supported value "x"')),
    get('rules?type=ALERTS', bad_data('invalid parameter "type": not supported value "alerts"')),
    get('rules?group_limit=x',
        bad_data('invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: '
                 'parsing "x": invalid syntax')),
    get('rules?group_limit=0', bad_data('invalid parameter "group_limit": group_limit needs to be greater than 0')),
    get('rules?group_limit=-1', bad_data('invalid parameter "group_limit": group_limit needs to be greater than 0')),
    get('rules?group_limit=99999999999',
        bad_data('invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: '
                 'parsing "99999999999": value out of range')),
    get('rules?group_next_token=a',
        bad_data('invalid parameter "group_next_token": group_limit needs to be present in order to paginate over '
                 'the groups')),
    get('rules?group_limit=1&group_next_token=a',
        bad_data('invalid parameter "group_next_token": invalid group_next_token \'a\'. were rule groups changed?')),
    get('rules?exclude_alerts=7',
        bad_data('invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing '
                 '"7": invalid syntax')),
    get('rules?exclude_alerts=q',
        bad_data('invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing '
                 '"q": invalid syntax')),
    get('rules?match[]=%7B', bad_data('1:2: parse error: unexpected end of input inside braces')),
    get('rules?match[]=%7B%7D', bad_data('match[] must contain at least one non-empty matcher')),
    get('rules?match[]=', bad_data('unknown position: parse error: unexpected end of input')),
    # ---- status
    get('status/tsdb?limit=0', bad_data('limit must be a positive number')),
    get('status/tsdb?limit=-1', bad_data('limit must be a positive number')),
    get('status/tsdb?limit=x', bad_data('limit must be a positive number')),
    get('status/tsdb?limit=10001', bad_data('limit must not exceed 10000'), since="3.14"),
    get('status/tsdb?limit=1.5', bad_data('limit must be a positive number')),
    get('status/tsdb?limit=99999999999999999999', bad_data('limit must be a positive number')),
    get('status', NOT_FOUND),
    get('status/nonsense', NOT_FOUND),
    # ---- methods
    request('PUT', 'query', NO_METHOD),
    request('DELETE', 'query', NO_METHOD),
    request('PATCH', 'query', NO_METHOD),
    request('PUT', 'query_range', NO_METHOD),
    request('DELETE', 'query_range', NO_METHOD),
    request('PATCH', 'query_range', NO_METHOD),
    request('PUT', 'query_exemplars', NO_METHOD),
    request('DELETE', 'query_exemplars', NO_METHOD),
    request('PATCH', 'query_exemplars', NO_METHOD),
    request('PUT', 'format_query', NO_METHOD),
    request('DELETE', 'format_query', NO_METHOD),
    request('PATCH', 'format_query', NO_METHOD),
    request('PUT', 'parse_query', NO_METHOD),
    request('DELETE', 'parse_query', NO_METHOD),
    request('PATCH', 'parse_query', NO_METHOD),
    request('PUT', 'labels', NO_METHOD),
    request('DELETE', 'labels', NO_METHOD),
    request('PATCH', 'labels', NO_METHOD),
    request('PUT', 'series', NO_METHOD),
    request('DELETE', 'series', NO_METHOD, since="3.14"),
    request('PATCH', 'series', NO_METHOD),
    post('label/job/values', '', NO_METHOD),
    post('metadata', '', NO_METHOD),
    post('rules', '', NO_METHOD),
    post('alerts', '', NO_METHOD),
    post('targets', '', NO_METHOD),
    post('alertmanagers', '', NO_METHOD),
    post('status/buildinfo', '', NO_METHOD),
    post('status/tsdb', '', NO_METHOD),
    post('status/config', '', NO_METHOD),
    post('status/flags', '', NO_METHOD),
    post('status/runtimeinfo', '', NO_METHOD),
    post('status/walreplay', '', NO_METHOD),
    request('PUT', 'label/job/values', NO_METHOD),
    get('write', NO_METHOD),
    request('PUT', 'write', NO_METHOD),
    get('admin/tsdb/clean_tombstones', NO_METHOD),
    request('DELETE', 'admin/tsdb/clean_tombstones', NO_METHOD),
    get('admin/tsdb/snapshot', NO_METHOD),
    request('PUT', 'query?query=1', NO_METHOD, body='query=2', headers=FORM),
    # ---- admin/tsdb
    get('admin/tsdb/delete_series', NO_METHOD),
    post('admin/tsdb/delete_series', '', (500, 'unavailable', 'admin APIs disabled')),
    request('PUT', 'admin/tsdb/delete_series', (500, 'unavailable', 'admin APIs disabled')),
    post('admin/tsdb/clean_tombstones', '', (500, 'unavailable', 'admin APIs disabled')),
    request('PUT', 'admin/tsdb/clean_tombstones', (500, 'unavailable', 'admin APIs disabled')),
    post('admin/tsdb/snapshot', '', (500, 'unavailable', 'admin APIs disabled')),
    get('admin', NOT_FOUND),
    get('admin/tsdb', NOT_FOUND),
    # ---- no such path
    get('', NOT_FOUND),
    get('nonsense', NOT_FOUND),
    get('query_range/x', NOT_FOUND),
    get('label', NOT_FOUND),
    # ---- where this program refuses what Prometheus takes, or says it otherwise
    get('query?query=up&time=NaN',
        bad_data('invalid parameter "time": invalid time value for \'time\': cannot parse "NaN" to a valid timestamp'),
        differs=("NaN is no time", GOOD)),
    get('query_range?query=up&start=NaN&end=10&step=1',
        bad_data('invalid parameter "start": cannot parse "NaN" to a valid timestamp'),
        differs=("NaN is no time", bad_data(TOO_MANY_POINTS))),
    get('query_range?query=up&start=0&end=10&step=NaN',
        bad_data('invalid parameter "step": cannot parse "NaN" to a valid duration'),
        differs=("NaN is no duration", bad_data(NO_STEP))),
    get('query_range?query=up&start=0&end=10&step=0.0001', bad_data(NO_STEP),
        differs=("steps are whole milliseconds", bad_data(TOO_MANY_POINTS))),
    get('query?query=%zz', (400, None, "the query string is not valid"),
        differs=("Prometheus leaves out what it cannot decode", bad_data(NO_QUERY))),
    post('query', 'query=%zz', bad_data("error parsing form values: bad percent-encoding"),
         differs=("Prometheus leaves out what it cannot decode", bad_data(NO_QUERY))),
    post('query', '%', bad_data("error parsing form values: bad percent-encoding"),
         differs=("Prometheus leaves out what it cannot decode", bad_data(NO_QUERY))),
    post('query', 'query=%zz&query=1', bad_data("error parsing form values: bad percent-encoding"),
         differs=("Prometheus leaves out what it cannot decode", GOOD)),
    get('query?query=up;time=1', bad_data('invalid parameter "query": 1:3: parse error: unexpected character: \';\''),
        differs=("a semicolon is a character; Prometheus leaves the parameter out", bad_data(NO_QUERY))),
    post('query', 'query=1;limit=1',
         bad_data('invalid parameter "query": 1:2: parse error: unexpected character: \';\''),
         differs=("a semicolon is a character; Prometheus leaves the parameter out", bad_data(NO_QUERY))),
    get('explain', bad_data(NO_QUERY), differs=("not in Prometheus", NOT_FOUND)),
    get('explain?query=up%7B',
        bad_data('invalid parameter "query": 1:4: parse error: unexpected end of input inside braces'),
        differs=("not in Prometheus", NOT_FOUND)),
    get('explain?query=up&analyze=maybe', bad_data('invalid parameter "analyze": it is "false" or "true"'),
        differs=("not in Prometheus", NOT_FOUND)),
    get('explain?query=up&format=xml', bad_data('invalid parameter "format": it is "json" or "text"'),
        differs=("not in Prometheus", NOT_FOUND)),
    get('explain?query=up&start=1', bad_data('invalid parameter "end": cannot parse "" to a valid timestamp'),
        differs=("not in Prometheus", NOT_FOUND)),
    get('explain?query=up&limit=x', bad_data('invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax'),
        differs=("not in Prometheus", NOT_FOUND)),
    request('PUT', 'explain', NO_METHOD, differs=("not in Prometheus", NOT_FOUND)),
    # ---- bodies that are not forms; errors are plain text, in words of our own
    get('read', NO_METHOD),
    request('PUT', 'read', NO_METHOD),
    protobuf('read', b"", (400, None, "the snappy data has no valid length")),
    protobuf('read', b"\xff\xff\xff", (400, None, "the snappy data has no valid length")),
    protobuf('read', b"\x02\x04\xff\xff", (400, None, "the read request is damaged: the message ends within a number")),
    request('POST', 'read', (400, None, "the snappy data announces more than it can hold"), body=b"x",
            differs=OUR_WORDS),
    protobuf('write', b"", (400, None, "the snappy data has no valid length")),
    protobuf('write', b"\xff\xff\xff\xff\xff\xff", (400, None, "the snappy data has no valid length")),
    protobuf('write', b"\x02\x04\xff\xff",
             (400, None, "malformed write request: the message ends within a number, at byte 0")),
    request('POST', 'write', (415, None, "unsupported content encoding: remote write is compressed with snappy"),
            body=b"\x00", headers={**PROTOBUF, "Content-Encoding": "gzip"},
            differs=("the words are ours", (415, None, None))),
    get('otlp/v1/metrics', NO_METHOD, since="3.14"),
    otlp(b"\xff\xff", {}, (400, None, "byte 0: not an ExportMetricsServiceRequest")),
    otlp(b"x", {"Content-Encoding": "gzip"}, (400, None, "not a gzip stream, or a part of one")),
    otlp(b"{", {"Content-Type": "application/json"},
         (415, None, "unsupported media type: send application/x-protobuf (JSON is not in this version)")),
    otlp(b"x", {"Content-Type": "text/plain"},
         (415, None, "unsupported media type: send application/x-protobuf (JSON is not in this version)")),
    otlp(b"x", {"Content-Encoding": "br"}, (415, None, "unsupported content encoding: send gzip, or none")),
]
