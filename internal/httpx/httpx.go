// Package httpx has what every careful HTTP client here needs.
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

// maxHeader bounds the headers of an answer, in bytes.
const maxHeader = 64 << 10

// Transport is the default transport with bounded headers, and without its error that prints a malformed proxy URL.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(r)
		if err != nil {
			return nil, errors.New("the proxy that the environment names has no valid URL")
		}
		return u, nil
	}
	return t
}

// RetryAfter reads the header of that name, in seconds or as an HTTP date; what is neither, or in the past, is zero.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v != "" && strings.Trim(v, "0123456789") == "" {
		n, _ := strconv.ParseUint(v, 10, 64) // the largest, where there are too many digits
		return time.Duration(min(n, math.MaxInt32)) * time.Second
	}
	t, _ := http.ParseTime(v) // the zero time is long past
	return max(t.Sub(now), 0)
}

// Pause waits before another try after cause, and gives up at once where ctx would end first. The error keeps cause.
func Pause(ctx context.Context, d time.Duration, cause error) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return fmt.Errorf("%w; the next try would be due in %s, after the time that is left", cause, d.Round(time.Millisecond))
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w; waiting for the next try: %w", cause, context.Cause(ctx))
	}
}
