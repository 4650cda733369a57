package httpx_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/httpx"
)

// FuzzRetryAfter holds that a wait is never negative, and is what the header says where it is one of its two forms.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"", "0", "120", "-1", "1.5", "+3", "soon", strings.Repeat("9", 400), "Sun, 01 Nov 2026 12:00:30 GMT", "Sat, 31 Oct 2026 12:00:30 GMT", "Sunday, 01-Nov-26 12:00:30 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := httpx.RetryAfter(http.Header{"Retry-After": {value}}, now)
		at, err := http.ParseTime(value)
		digits := value != "" && strings.Trim(value, "0123456789") == ""
		switch {
		case got < 0:
			t.Errorf("%q asks for %s", value, got)
		case digits && len(value) < 9:
			var n time.Duration
			for _, c := range value {
				n = 10*n + time.Duration(c-'0')
			}
			if got != n*time.Second {
				t.Errorf("%q asks for %s", value, got)
			}
		case digits && got < time.Second*99_999_999 && strings.Trim(value, "0") == value:
			t.Errorf("%q asks for %s only", value, got)
		case !digits && err != nil && got != 0, !digits && err == nil && got != max(at.Sub(now), 0):
			t.Errorf("%q asks for %s", value, got)
		}
	})
}
