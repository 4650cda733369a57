package evidence

import (
	"bytes"
	"compress/gzip"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const (
	// maxFile bounds a file, unpacked. That of a contract with 200,000 registered apps has about 40 MiB.
	maxFile = 128 << 20
	// maxGrowth bounds what is made of a file in memory, as a multiple of its size, and with perElement how many values it
	// has; a real one stays below 1.
	maxGrowth  = 2
	perElement = 32

	firstRules = 2 // of this format
	schemaV1   = `{"schema":"kms-auditor/evidence/v1"`
)

// ErrRefuted marks evidence that does not hold: it was changed, or its report is not what it gives.
var ErrRefuted = errors.New("the evidence does not hold")

// Decode reads what Encode wrote, also where gzip packed it. A file that bears the mark of evidence and is not what was
// written is ErrRefuted. Keys are matched exactly; one that is unknown, or given twice, is refused.
func Decode(r io.Reader) (*File, error) {
	b, err := unpack(r)
	if err != nil {
		return nil, err
	}
	body, last, _ := bytes.Cut(b, []byte("\n"))
	switch {
	case !bytes.HasPrefix(last, []byte(sealed)):
		return nil, errors.New("reading the evidence: it is not evidence, which has two lines: a JSON document and its SHA-256")
	case string(last) != seal(body):
		return nil, fmt.Errorf("%w: it is not what was written: its SHA-256 differs", ErrRefuted)
	case bytes.HasPrefix(body, []byte(schemaV1)):
		return nil, errors.New("reading the evidence: its format kms-auditor/evidence/v1 can be read only by the release that wrote it, which the report names as version")
	}
	f := &File{}
	if err := exact(body, reflect.TypeFor[File]()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefuted, err)
	}
	switch err := json.Unmarshal(body, f); {
	case err != nil:
		return nil, fmt.Errorf("%w: %s", ErrRefuted, sanitize.Plain(err.Error()))
	case f.Schema != Schema || f.Rules > audit.Rules:
		return nil, fmt.Errorf("reading the evidence: it is %s by rules %d, and this release reads %s by rules of up to %d: use a newer one",
			sanitize.Quote(f.Schema), f.Rules, Schema, audit.Rules)
	case f.Report == nil || f.Report.Schema != audit.Schema || f.Rules < firstRules:
		return nil, fmt.Errorf("%w: it has no report of a known schema and rules", ErrRefuted)
	}
	return f, nil
}

func unpack(r io.Reader) ([]byte, error) {
	b, err := capped(r)
	if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpacking the evidence: %w", err)
	}
	return capped(z)
}

func capped(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the evidence: %w", err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("reading the evidence: it has more than %d MiB", maxFile>>20)
	}
	return b, nil
}

// exact checks a document against the type that it is decoded into: encoding/json takes keys in any case, takes them
// twice, and makes as much of a few bytes as the type is large.
func exact(body []byte, t reflect.Type) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	w := walk{Decoder: json.NewDecoder(bytes.NewReader(body)), room: maxGrowth*len(body) + 1<<16, fields: map[reflect.Type]map[string]reflect.Type{}}
	return w.value(t)
}

type walk struct {
	*json.Decoder
	room   int // bytes that the values may still take
	fields map[reflect.Type]map[string]reflect.Type
}

func (w *walk) token() (json.Token, error) {
	token, err := w.Token()
	if err != nil {
		err = errors.New(sanitize.Plain(err.Error()))
	}
	return token, err
}

func (w *walk) value(t reflect.Type) error {
	token, err := w.token()
	if err != nil {
		return err
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil // json.Unmarshal knows whether it fits
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		w.room -= int(t.Size())
	}
	switch {
	case isText(t):
	case delim == '{' && t.Kind() == reflect.Struct:
		return w.object(w.fieldsOf(t))
	case delim == '{' && t.Kind() == reflect.Map:
		return w.object(nil)
	case delim == '[' && t.Kind() == reflect.Slice:
		for w.More() {
			if w.room -= int(t.Elem().Size()) + perElement; w.room < 0 {
				return errors.New("it takes too much memory")
			}
			if err := w.value(t.Elem()); err != nil {
				return err
			}
		}
		return w.end()
	}
	return fmt.Errorf("it has a list or an object at byte %d, where none belongs", w.InputOffset())
}

// end passes over the end of an object or a list.
func (w *walk) end() error {
	_, err := w.token()
	return err
}

// object checks the rest of an object. Without fields it is one of texts, by any names.
func (w *walk) object(fields map[string]reflect.Type) error {
	seen := map[string]bool{}
	for w.More() {
		token, err := w.token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		t, known := fields[key]
		switch {
		case seen[key]:
			return fmt.Errorf("it has the key %s twice in one object", sanitize.Quote(key))
		case fields == nil:
			t = reflect.TypeFor[string]()
		case !known:
			return fmt.Errorf("it has the key %s, which is unknown there", sanitize.Quote(key))
		}
		seen[key] = true
		if err := w.value(t); err != nil {
			return err
		}
	}
	return w.end()
}

// isText reports whether the type reads itself, from a text.
func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// fieldsOf returns the keys of a struct's JSON, all of which are named by tags.
func (w *walk) fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known := w.fields[t]; known != nil {
		return known
	}
	out := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			out[name] = f.Type
		}
	}
	w.fields[t] = out
	return out
}
