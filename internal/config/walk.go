package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// A leaf reads itself from one node, of any kind.
type leaf interface{ decode(n *yaml.Node) error }

// An element of a list may have defaults.
type defaulter interface{ setDefaults() }

// fill sets dst, a pointer, from n, and notes what does not fit. What the file does not give keeps its value.
func (d *doc) fill(n *yaml.Node, path string, dst any) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		d.add(path, "YAML anchors, aliases and tags are not allowed: a text that begins with &, * or ! needs quotes")
		return
	case isNull(n):
		d.add(path, "has no value: give one, or remove the key for its default")
		return
	}
	if l, ok := dst.(leaf); ok {
		if err := l.decode(n); err != nil {
			d.add(path, "%s", err)
		}
		return
	}
	v := reflect.ValueOf(dst).Elem()
	switch v.Kind() {
	case reflect.Struct:
		d.fillStruct(n, path, v)
	case reflect.Slice:
		d.fillSlice(n, path, v)
	case reflect.Map:
		d.fillHeaders(n, path, dst.(*headers))
	default:
		if err := decodeScalar(n, v); err != nil {
			d.add(path, "%s", err)
		}
	}
}

func (d *doc) fillStruct(n *yaml.Node, path string, v reflect.Value) {
	keys := keysOf(v.Type())
	if n.Kind != yaml.MappingNode {
		d.add(path, "must be a mapping with keys of: %s", strings.Join(keys, ", "))
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		f := slices.Index(keys, key.Value)
		switch {
		case f < 0 || key.Kind != yaml.ScalarNode:
			d.unknownKey(key, path, keys)
		case d.given(at):
			d.addAt(key.Line, at, "is given twice, first in line %d", d.lines[at])
		default:
			d.lines[at] = key.Line
			d.fill(val, at, v.Field(f).Addr().Interface())
		}
	}
}

// replaced has the keys of earlier releases, by path, and what is to be written instead.
var replaced = map[string]string{
	"evidence_dir":  "evidence.dir",
	"evidence_keep": "evidence.keep_changes and evidence.keep_last",
}

// word is what a mistyped key looks like. Other texts are not shown: a value that slipped into a key's place may be a secret.
var word = regexp.MustCompile(`^[A-Za-z_-]{1,32}$`)

func (d *doc) unknownKey(key *yaml.Node, path string, keys []string) {
	name := "?"
	if key.Kind == yaml.ScalarNode && word.MatchString(key.Value) {
		name = key.Value
	}
	at := strings.TrimPrefix(path+"."+name, ".")
	if now, ok := replaced[at]; ok {
		d.addAt(key.Line, at, "was replaced by %s", now)
		return
	}
	d.addAt(key.Line, at, "unknown key; known here: %s", strings.Join(keys, ", "))
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func (d *doc) fillSlice(n *yaml.Node, path string, v reflect.Value) {
	if ps, ok := v.Addr().Interface().(*policies); ok && n.Kind == yaml.ScalarNode {
		*ps = make(policies, 1)
		d.fill(n, path, &(*ps)[0])
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.add(path, "must be a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		dst := v.Index(i).Addr().Interface()
		if el, ok := dst.(defaulter); ok {
			el.setDefaults()
		}
		d.fill(item, at, dst)
	}
}
