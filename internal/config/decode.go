package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// read parses data as one document and returns its root, or nil and a problem.
func (d *doc) read(data []byte) (root *yaml.Node) {
	refuse := func(line int, format string, args ...any) *yaml.Node {
		d.addAt(line, "", format, args...)
		return nil
	}
	// The parser may panic because of its own bugs.
	defer func() {
		if r := recover(); r != nil {
			root = refuse(0, "the YAML parser cannot read the file")
		}
	}()
	if len(data) > maxSize {
		return refuse(0, "the file is larger than 1 MiB")
	}
	if line := badLine(data); line > 0 {
		return refuse(line, "must be UTF-8 text without control characters")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	err := dec.Decode(&first)
	if errors.Is(err, io.EOF) || err == nil && isNull(first.Content[0]) {
		return refuse(0, "the file has no settings: run without --config for the built-in configuration, or write one with kms-auditor config init")
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return refuse(second.Line, "a second YAML document begins here: remove it")
		}
	}
	if !errors.Is(err, io.EOF) {
		line, msg := syntax(err, data)
		return refuse(line, "%s", msg)
	}
	d.lines[""] = first.Content[0].Line
	return first.Content[0]
}

func badLine(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if !utf8.Valid(line) || bytes.ContainsFunc(bytes.Trim(line, "\r\n"), func(r rune) bool { return r != '\t' && isControl(r) }) {
			return n
		}
	}
	return 0
}

var (
	yamlLine      = regexp.MustCompile(`^line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

const starSentence = "a value begins with * or & outside quotes: put it in quotes"

// syntax splits the parser's error into line and message. The line may be where the block starts.
func syntax(err error, data []byte) (int, string) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		// The anchor's name may be a secret: it is used to find the line, and not shown.
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		return 1 + bytes.Count(before, []byte("\n")), starSentence
	}
	line := 1 // if the parser omits it
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	if msg == "did not find expected alphabetic or numeric character" {
		return line, starSentence
	}
	return line, "not valid YAML here or a little below: " + sanitize.Plain(msg)
}

const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// entryID is an entry's id in the spelling of a report, which depends on the kind of finding.
type entryID string

// fileAccept is an Exception in the order of the file's keys.
type fileAccept struct {
	Chain    string         `yaml:"chain"`
	Contract common.Address `yaml:"contract"`
	Kind     audit.Kind     `yaml:"kind"`
	List     audit.List     `yaml:"list"`
	ID       entryID        `yaml:"id"`
	Reason   string         `yaml:"reason"`
	Expires  time.Time      `yaml:"expires"`
}

// fileProvider is an ethrpc.Provider with the file's keys.
type fileProvider struct {
	Name              string                     `yaml:"name"`
	URL               sanitize.Secret            `yaml:"url|url_env|url_file"`
	Headers           map[string]sanitize.Secret `yaml:"headers"`
	Timeout           time.Duration              `yaml:"timeout"`
	RequestsPerSecond float64                    `yaml:"requests_per_second"`
}

// fileEndpoint is an anchor.Endpoint with the file's keys.
type fileEndpoint struct {
	Name    string          `yaml:"name"`
	URL     sanitize.Secret `yaml:"url|url_env|url_file"`
	Timeout time.Duration   `yaml:"timeout"`
}

// decode sets dst, a pointer, from n, and adds problems. Fields that the file does not have keep their values.
func (d *doc) decode(n *yaml.Node, path string, dst any) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		d.add(path, "YAML anchors, aliases and tags are not allowed: a text that begins with &, * or ! needs quotes")
		return
	case isNull(n):
		d.add(path, "has no value: give one, or remove the key for its default")
		return
	}
	var err error
	switch dst := dst.(type) {
	case *bool:
		*dst, err = unquoted(n, []string{"!!bool"}, strconv.ParseBool, "must be true or false, without quotes")
	case *uint64:
		*dst, err = whole(n)
	case *int:
		var u uint64
		u, err = whole(n)
		*dst = int(min(u, math.MaxInt))
	case *float64:
		parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
		*dst, err = unquoted(n, []string{"!!int", "!!float"}, parse, "must be a number without quotes")
	case *time.Duration:
		*dst, err = duration(n)
	case *time.Time:
		*dst, err = expiry(n)
	case *common.Address:
		*dst, err = hex(n, "address", sanitize.ParseAddress)
	case *common.Hash:
		*dst, err = hex(n, "value of 32 bytes", sanitize.ParseID)
	case *entryID:
		*dst, err = hex(n, "id", func(string) (entryID, error) {
			s, err := text(n)
			return entryID(s), err
		})
	case *Required:
		*dst, err = required(n)
	case *ethrpc.BlockTag:
		*dst, err = blockTag(n)
	case *ethrpc.Verify:
		*dst, err = verify(n)
	case *sanitize.Secret:
		var s string
		s, err = text(n)
		*dst = sanitize.NewSecret(s)
	case *map[string]sanitize.Secret:
		*dst = d.headers(n, path)
	case *Chain:
		*dst = newChain()
		d.decodeStruct(n, path, reflect.ValueOf(dst).Elem())
	case *ethrpc.Provider:
		dst.Timeout = providerTimeout
		d.decode(n, path, (*fileProvider)(dst))
	case *anchor.Endpoint:
		dst.Timeout = providerTimeout
		d.decode(n, path, (*fileEndpoint)(dst))
	case *Exception:
		var f fileAccept
		d.decode(n, path, &f)
		*dst = Exception{f.Chain, audit.Exception{Contract: f.Contract, List: f.List, ID: string(f.ID), Kind: f.Kind, Reason: f.Reason, Expires: f.Expires}}
	default:
		switch v := reflect.ValueOf(dst).Elem(); v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			d.decode(n, path, v.Interface())
		case reflect.Struct:
			d.decodeStruct(n, path, v)
		case reflect.Slice:
			d.decodeSlice(n, path, v)
		default:
			var s string
			s, err = text(n)
			v.SetString(s)
		}
	}
	if err != nil {
		d.add(path, "%s", err)
	}
}

// keysOf lists the keys of a struct's fields in their order, and the field of each. They come from the yaml tags, or the JSON tags of
// audit's types. A field may have alternative keys.
func keysOf(t reflect.Type) (keys []string, fields map[string]int) {
	fields = map[string]int{}
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, _, _ := strings.Cut(cmp.Or(tag.Get("yaml"), tag.Get("json")), ",")
		for key := range strings.SplitSeq(name, "|") {
			if key != "" {
				keys, fields[key] = append(keys, key), i
			}
		}
	}
	return keys, fields
}

func (d *doc) decodeStruct(n *yaml.Node, path string, v reflect.Value) {
	keys, fields := keysOf(v.Type())
	if n.Kind != yaml.MappingNode {
		d.add(path, "must be a mapping with keys of: %s", strings.Join(keys, ", "))
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		field, known := fields[key.Value]
		switch {
		case !known || key.Kind != yaml.ScalarNode:
			d.unknownKey(key, path, keys)
		case d.given(at):
			d.addAt(key.Line, at, "is given twice, first on line %d", d.lines[at])
		default:
			d.lines[at] = key.Line
			d.decode(val, at, v.Field(field).Addr().Interface())
		}
	}
}

// replaced has the keys of earlier releases, by path, and their replacements.
var replaced = map[string]string{
	"evidence_dir":  "evidence.dir",
	"evidence_keep": "evidence.keep_changes and evidence.keep_last",
}

// word matches a mistyped key. Other text is not shown: a misplaced value may be a secret.
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

func (d *doc) decodeSlice(n *yaml.Node, path string, v reflect.Value) {
	if tags, ok := v.Addr().Interface().(*[]ethrpc.BlockTag); ok && n.Kind == yaml.ScalarNode {
		*tags = make([]ethrpc.BlockTag, 1)
		d.decode(n, path, &(*tags)[0])
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
		d.decode(item, at, v.Index(i).Addr().Interface())
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// text returns a node's text as written. A plain date is text too, although YAML takes it for a time.
func text(n *yaml.Node) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", errors.New("must be a single text")
	case n.Tag != "!!str" && n.Tag != "!!timestamp":
		return "", errors.New("must be a text: put it in quotes")
	case strings.ContainsFunc(n.Value, isControl):
		return "", errors.New("must not contain line breaks or control characters")
	}
	return n.Value, nil
}

// unquoted parses a value that YAML takes for one of kinds, not for text.
func unquoted[T any](n *yaml.Node, kinds []string, parse func(string) (T, error), message string) (T, error) {
	v, err := parse(n.Value)
	if err != nil || !slices.Contains(kinds, n.Tag) {
		return *new(T), errors.New(message)
	}
	return v, nil
}

func whole(n *yaml.Node) (uint64, error) {
	parse := func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
	return unquoted(n, []string{"!!int"}, parse, "must be a whole number, 0 or more, in decimal digits without quotes")
}

func duration(n *yaml.Node) (time.Duration, error) {
	_, notNumber := strconv.ParseFloat(n.Value, 64)
	v, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode:
		return 0, errors.New("must be a single duration such as 30s, 2m or 1h30m")
	case notNumber == nil || n.Tag == "!!int" || n.Tag == "!!float":
		return 0, fmt.Errorf("%s has no unit: write a duration such as 30s, 2m or 1h30m", sanitize.Quote(n.Value))
	case err != nil:
		return 0, fmt.Errorf("%s is not a duration such as 30s, 2m or 1h30m", sanitize.Quote(n.Value))
	}
	return v, nil
}

// expiry parses a time, or a date, which means its last second. Both are in UTC.
func expiry(n *yaml.Node) (time.Time, error) {
	if n.Kind != yaml.ScalarNode {
		return time.Time{}, errors.New("must be a single date or time")
	}
	if day, err := time.Parse(time.DateOnly, n.Value); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a date such as 2026-12-31 (to its end, in UTC) or a time such as 2026-12-31T18:00:00Z", sanitize.Quote(n.Value))
	}
	return t.UTC(), nil
}

var errUnquoted = errors.New(`hex must be in quotes, or YAML may read it as a number: "0x…"`)

func hex[T any](n *yaml.Node, what string, parse func(string) (T, error)) (v T, err error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return v, fmt.Errorf("must be a single %s", what)
	case n.Style&quoted == 0:
		return v, errUnquoted
	}
	return parse(n.Value)
}

func blockTag(n *yaml.Node) (tag ethrpc.BlockTag, err error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return tag, errors.New("must be a single block policy")
	case n.Style&quoted == 0 && strings.HasPrefix(strings.ToLower(n.Value), "0x"):
		return tag, errUnquoted
	}
	return ethrpc.ParseBlockTag(n.Value)
}

// required parses a boolean, or the word for a trust.
func required(n *yaml.Node) (Required, error) {
	if n.Value == "proposed" || n.Value == "anchored" {
		return requiredWords[n.Value], nil
	}
	must, err := unquoted(n, []string{"!!bool"}, strconv.ParseBool, "must be true or false without quotes, and with l1: false, proposed or anchored")
	return requiredWords[strconv.FormatBool(must)], err
}

func verify(n *yaml.Node) (ethrpc.Verify, error) {
	mode, err := text(n)
	v, known := map[string]ethrpc.Verify{"auto": ethrpc.VerifyAuto, "required": ethrpc.VerifyRequired, "off": ethrpc.VerifyOff}[mode]
	if err == nil && !known {
		err = errors.New("must be auto, required or off")
	}
	return v, err
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")

// headers reads names and secret values. No message shows a name, since a misplaced value may stand there.
func (d *doc) headers(n *yaml.Node, path string) map[string]sanitize.Secret {
	if n.Kind != yaml.MappingNode {
		d.add(path, "must be a mapping of header names to values")
		return nil
	}
	headers := map[string]sanitize.Secret{}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := http.CanonicalHeaderKey(key.Value)
		v, err := text(val)
		_, twice := headers[name]
		switch {
		case key.Kind != yaml.ScalarNode || !headerName.MatchString(key.Value):
			d.addAt(key.Line, path, "a header's name is not a name that HTTP allows")
		case twice:
			d.addAt(key.Line, path, "a header is given twice (its case does not matter)")
		case err != nil || v == "" || val.Anchor != "" || val.Style&yaml.TaggedStyle != 0:
			d.addAt(key.Line, path, "a header's value must be a text in quotes, not empty, without control characters")
		}
		headers[name] = sanitize.NewSecret(v)
	}
	return headers
}
