// Package httpx has helpers for HTTP clients.
package httpx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxHeader is the most bytes of a response's headers.
const maxHeader = 64 << 10

// Transport returns a clone of the default transport with bounded headers. Its errors do not contain the proxy's URL.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(r)
		if err != nil {
			return nil, errors.New("the proxy URL in the environment is not valid")
		}
		return u, nil
	}
	return t
}

// RetryAfter parses the Retry-After header, in seconds or as an HTTP date. It returns zero if the value is invalid or in the past.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v != "" && strings.Trim(v, "0123456789") == "" {
		n, _ := strconv.ParseUint(v, 10, 64) // the maximum on overflow
		return time.Duration(min(n, math.MaxInt32)) * time.Second
	}
	t, _ := http.ParseTime(v) // the zero time on error
	return max(t.Sub(now), 0)
}

// Pause waits for d before a retry after cause. It fails at once if ctx would end first. The error wraps cause.
func Pause(ctx context.Context, d time.Duration, cause error) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return fmt.Errorf("%w; the next try would be in %s, after the deadline", cause, d.Round(time.Millisecond))
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w; waiting for the next try: %w", cause, context.Cause(ctx))
	}
}
