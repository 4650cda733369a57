// Package fit holds what every parser of outside input owes to whoever reads its errors. Tests use it, and fuzz targets above all.
package fit

import (
	"strings"
	"testing"
	"unicode"
)

// Error refuses an error that is long, in bytes, that holds what cannot be printed, or that tells a secret.
// Line breaks are for those who join errors, each of which is checked alone.
func Error(t testing.TB, err error, most int, secrets ...string) {
	t.Helper()
	Text(t, err.Error(), most, secrets...)
}

// Text is Error for a text that is shown.
func Text(t testing.TB, text string, most int, secrets ...string) {
	t.Helper()
	if len(text) > most {
		t.Errorf("%d bytes are shown, more than %d: %.300q", len(text), most, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("what is shown cannot be printed from byte %d on: %.2000q", i, text)
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the secret %q is shown: %.2000q", s, text)
		}
	}
}
