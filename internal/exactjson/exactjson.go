// Package exactjson decodes untrusted JSON. Unlike encoding/json, it matches keys exactly, rejects duplicate keys, and bounds the
// memory by the document's size. Every field of the target must have a json tag. The content of a json.RawMessage is not
// checked.
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

const (
	maxGrowth  = 2  // the most memory for the values, as a multiple of the document's size
	perElement = 32 // bytes charged for each list element on top of its type's size
)

// Own decodes a document that this program wrote. An unknown key is an error.
func Own(body []byte, v any) error { return decode(body, v, false) }

// Foreign decodes a document of an API. Unknown keys are ignored, except those that differ from a field only by case. A missing or
// null field is an error.
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

// plain makes an error of encoding/json printable, because it may quote the document.
func plain(err error) error {
	if err != nil {
		err = errors.New(sanitize.Plain(err.Error()))
	}
	return err
}

type walk struct {
	*json.Decoder
	foreign bool
	room    int // bytes that are left for values
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
			return fmt.Errorf("it has null instead of a value before byte %d", w.InputOffset())
		}
		return nil // json.Unmarshal checks the type
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
		_, err = w.token() // the closing bracket
		return err
	}
	return fmt.Errorf("it has an unexpected list or object at byte %d", w.InputOffset())
}

// object checks the rest of an object. If fields is nil, any key is allowed and values must be texts.
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
			return fmt.Errorf("it has the unknown key %s", sanitize.Quote(key))
		default:
			for name := range fields {
				if strings.EqualFold(name, key) {
					return fmt.Errorf("it has the key %s, which differs from %s only by case", sanitize.Quote(key), name)
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
	_, err := w.token() // the closing brace
	return err
}

// isText reports whether the type unmarshals itself.
func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// fieldsOf returns the types of a struct's fields by JSON key.
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
