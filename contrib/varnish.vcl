# An edge: Varnish in front of the relay's HLS, as contrib/nginx.conf is. However many watch, the relay
# is asked for each segment once, and for the playlist about once a second.
#
#     varnishd -F -n "$PWD/edge" -a :8081 -f "$PWD/contrib/varnish.vcl" -s malloc,1g
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
    set req.url = regsub(req.url, "\?.*", "");  # whatever stands behind a ? is the same here
    if (req.url != "/live.m3u8" && req.url !~ "^/hls/") {
        return (synth(404));
    }
    set req.http.Host = "localhost";  # the relay answers to its own names only; and one copy for all
    unset req.http.Cookie;
    unset req.http.Authorization;
}

sub vcl_backend_fetch {
    unset bereq.http.Accept-Encoding;  # one copy, with a length
}

sub vcl_backend_response {
    set beresp.grace = 0s;  # an old playlist is of no use: who comes waits for the new one
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
}
