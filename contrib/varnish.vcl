# An edge: Varnish in front of the relay's HLS, as contrib/nginx.conf is. However many watch, the relay
# is asked for each segment once, and for the playlist about once a second.
#
#     varnishd -F -n "$PWD/edge" -a :8081 -f "$PWD/contrib/varnish.vcl" -s malloc,1g -p http_req_size=4k
#
# A request that is larger than that is declined here: the relay would decline one of 8 KiB, and everybody
# who waits for the same segment would get that answer.
#
# Set the address of the relay, or of the edge before this one. For how long what it says may be kept,
# the relay tells (Cache-Control); that those who ask for the same wait for one is Varnish's own habit.

vcl 4.1;

backend relay {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 5s;
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405));
    }
    set req.url = regsub(req.url, "\?.*", "");  # whatever stands behind a ? is the same here
    if (req.url != "/live.m3u8" && req.url !~ "^/hls/[0-9a-f]{1,32}/(0|[1-9][0-9]{0,15})\.ts$") {
        return (synth(404));  # among them: other spellings of the same names
    }
    set req.http.Host = "localhost";  # the relay answers to its own names only; and one copy for all
    unset req.http.Cookie;
    unset req.http.Authorization;
    unset req.http.Origin;
    return (hash);  # never passed, whatever else is asked
}

sub vcl_backend_fetch {
    unset bereq.http.Accept-Encoding;  # one copy, with a length
    unset bereq.http.X-Forwarded-For;
    unset bereq.http.Content-Length;
    unset bereq.http.Transfer-Encoding;
    unset bereq.http.Expect;
    unset bereq.http.TE;
}

sub vcl_backend_response {
    set beresp.grace = 0s;  # an old playlist is of no use: who comes waits for the new one
    unset beresp.http.Vary;
    if (beresp.status >= 400) {
        set beresp.ttl = 1s;  # or everybody would ask again, all at once (hit-for-miss)
        return (deliver);
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
