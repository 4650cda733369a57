// Package exactjson decodes JSON from outside. encoding/json alone takes keys in any case, takes them twice, and makes as
// much memory of a few bytes as the type is large: here keys match exactly, once, and memory is bounded by the size. Every field is named by a json tag,
// and what a json.RawMessage holds is not looked into.
package exactjson

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxGrowth bounds what is made of a document in memory, as a multiple of its size, and with perElement how many values a
// list has.
const (
	maxGrowth  = 2
	perElement = 32
)

// Own decodes a document of our own: a key that is unknown is an error.
func Own(body []byte, v any) error { return decode(body, v, false) }

// Foreign decodes a document of an API, which may grow: a key that is unknown is passed over, unless it is that of a field in
// another case. A field that is missing or null is an error.
func Foreign(body []byte, v any) error { return decode(body, v, true) }

func decode(body []byte, v any, foreign bool) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	w := walk{Decoder: json.NewDecoder(bytes.NewReader(body)), foreign: foreign, room: maxGrowth*len(body) + 1<<16, fields: map[reflect.Type]map[string]reflect.Type{}}
	err := w.value(reflect.TypeOf(v).Elem())
	if err == nil {
		err = plain(json.Unmarshal(body, v))
	}
	return err
}

// plain makes the text of an error of encoding/json, which quotes the document, printable.
func plain(err error) error {
	if err != nil {
		err = errors.New(sanitize.Plain(err.Error()))
	}
	return err
}

type walk struct {
	*json.Decoder
	foreign bool
	room    int // bytes that the values may still take
	fields  map[reflect.Type]map[string]reflect.Type
}

func (w *walk) token() (json.Token, error) {
	token, err := w.Token()
	return token, plain(err)
}

func (w *walk) value(t reflect.Type) error {
	if t == reflect.TypeFor[json.RawMessage]() {
		return plain(w.Decode(new(json.RawMessage)))
	}
	token, err := w.token()
	if err != nil {
		return err
	}
	delim, nested := token.(json.Delim)
	if !nested {
		if token == nil && w.foreign {
			return fmt.Errorf("it has null before byte %d, where a value belongs", w.InputOffset())
		}
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
		_, err = w.token() // its end
		return err
	}
	return fmt.Errorf("it has a list or an object at byte %d, where none belongs", w.InputOffset())
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
		case known:
		case !w.foreign:
			return fmt.Errorf("it has the key %s, which is unknown there", sanitize.Quote(key))
		default:
			for name := range fields {
				if strings.EqualFold(name, key) {
					return fmt.Errorf("it has the key %s, which differs from %s by its case", sanitize.Quote(key), name)
				}
			}
			if err := plain(w.Decode(new(json.RawMessage))); err != nil {
				return err
			}
			continue
		}
		seen[key] = true
		if err := w.value(t); err != nil {
			return err
		}
	}
	if w.foreign {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if !seen[name] {
				return fmt.Errorf("it has no %s", name)
			}
		}
	}
	_, err := w.token() // its end
	return err
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
