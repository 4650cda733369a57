package config

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func isNumber(n *yaml.Node) bool { return n.Tag == "!!int" || n.Tag == "!!float" }

// text is a node's text as written. A plain date is text too: YAML alone would make it a time.
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

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// decodeScalar sets v, a string, a number or a truth value.
func decodeScalar(n *yaml.Node, v reflect.Value) (err error) {
	switch v.Kind() {
	case reflect.String:
		var s string
		if s, err = text(n); err == nil {
			v.SetString(s)
		}
	case reflect.Bool:
		if n.Tag != "!!bool" {
			return errors.New("must be true or false, without quotes")
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Uint64:
		var u uint64
		if u, err = strconv.ParseUint(n.Value, 10, 64); err != nil || n.Tag != "!!int" {
			return errors.New("must be a whole number, 0 or more, in decimal digits without quotes")
		}
		v.SetUint(u)
	case reflect.Float64:
		var f float64
		if f, err = strconv.ParseFloat(n.Value, 64); err != nil || !isNumber(n) {
			return errors.New("must be a number without quotes")
		}
		v.SetFloat(f)
	}
	return err
}

type duration time.Duration

func (d *duration) decode(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("must be a single duration such as 30s, 2m or 1h30m")
	}
	if _, err := strconv.ParseFloat(n.Value, 64); err == nil || isNumber(n) {
		return fmt.Errorf("%s has no unit: write a duration such as 30s, 2m or 1h30m", sanitize.Quote(n.Value))
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("%s is not a duration such as 30s, 2m or 1h30m", sanitize.Quote(n.Value))
	}
	*d = duration(v)
	return nil
}

type address common.Address

func (a *address) decode(n *yaml.Node) error {
	v, err := decodeHex(n, "address", sanitize.ParseAddress)
	*a = address(v)
	return err
}

type bytes32 common.Hash

func (b *bytes32) decode(n *yaml.Node) error {
	v, err := decodeHex(n, "value of 32 bytes", sanitize.ParseID)
	*b = bytes32(v)
	return err
}

// reportID is an entry's id as a report may spell it; which spelling is right depends on the kind of finding.
type reportID string

func (i *reportID) decode(n *yaml.Node) error {
	v, err := decodeHex(n, "id", func(string) (string, error) { return text(n) })
	*i = reportID(v)
	return err
}

// expiry is a moment in UTC: the last second of a day, or the one that is given.
type expiry time.Time

func (e *expiry) decode(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("must be a single day or time")
	}
	t, err := time.Parse(time.DateOnly, n.Value)
	if err == nil {
		t = t.AddDate(0, 0, 1).Add(-time.Second)
	} else if t, err = time.Parse(time.RFC3339, n.Value); err != nil {
		return fmt.Errorf("%s is neither a day such as 2026-12-31, the whole of which is meant (UTC), nor a time such as 2026-12-31T18:00:00Z", sanitize.Quote(n.Value))
	}
	*e = expiry(t.UTC())
	return nil
}

var errUnquoted = errors.New(`hex must be in quotes, or YAML may read it as a number: "0x…"`)

func decodeHex[T any](n *yaml.Node, what string, parse func(string) (T, error)) (v T, err error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return v, fmt.Errorf("must be a single %s", what)
	case n.Style&quoted == 0:
		return v, errUnquoted
	}
	return parse(n.Value)
}

type policies []policy

type policy ethrpc.BlockTag

func (p *policy) decode(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("must be a single block policy")
	}
	if n.Style&quoted == 0 && strings.HasPrefix(strings.ToLower(n.Value), "0x") {
		return errUnquoted
	}
	v, err := ethrpc.ParseBlockTag(n.Value)
	*p = policy(v)
	return err
}

type headers map[string]sanitize.Secret

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$")

// fillHeaders reads names and secret values. No message shows a name: a value without its name stands in the name's place.
func (d *doc) fillHeaders(n *yaml.Node, path string, dst *headers) {
	if n.Kind != yaml.MappingNode {
		d.add(path, "must be a mapping of header names to values")
		return
	}
	*dst = headers{}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := http.CanonicalHeaderKey(key.Value)
		v, err := text(val)
		_, twice := (*dst)[name]
		switch {
		case key.Kind != yaml.ScalarNode || !headerName.MatchString(key.Value):
			d.addAt(key.Line, path, "a header's name is not a name that HTTP allows")
		case twice:
			d.addAt(key.Line, path, "a header is given twice (its case does not matter)")
		case err != nil || v == "" || val.Anchor != "" || val.Style&yaml.TaggedStyle != 0:
			d.addAt(key.Line, path, "a header's value must be a text in quotes, not empty, without control characters")
		}
		(*dst)[name] = sanitize.NewSecret(v)
	}
}
