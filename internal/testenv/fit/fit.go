// Package fit checks that the errors of parsers of outside input are short, printable and without secrets. Tests and fuzz targets
// use it.
package fit

import (
	"strings"
	"testing"
	"unicode"
)

// Error reports a test error if err has more than most bytes, an unprintable character or a secret. Line breaks count as
// unprintable, so check joined errors one by one.
func Error(t testing.TB, err error, most int, secrets ...string) {
	t.Helper()
	Text(t, err.Error(), most, secrets...)
}

// Text is like Error, for a string.
func Text(t testing.TB, text string, most int, secrets ...string) {
	t.Helper()
	if len(text) > most {
		t.Errorf("the text has %d bytes, more than %d: %.300q", len(text), most, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("the text is unprintable at byte %d: %.2000q", i, text)
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the text has the secret %q: %.2000q", s, text)
		}
	}
}
