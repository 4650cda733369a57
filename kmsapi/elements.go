package kmsapi

import (
	"encoding/json"
	"iter"
	"strings"
)

// elements yields the elements of a JSON list or object, with their keys, as parts of raw, until there is an error. raw
// is known to be valid: so the levels of a body of some megabytes are told apart without decoding it once for each.
func (d *decoder) elements(raw string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		if d.err != nil {
			return
		}
		keyed := raw[0] == '{'
		for rest := raw[1:]; d.err == nil; {
			rest = strings.TrimLeft(rest, " \t\r\n,")
			if rest[0] == '}' || rest[0] == ']' {
				return
			}
			var key string
			if keyed {
				key, rest = cut(rest)
				rest = strings.TrimLeft(rest, " \t\r\n:")
			}
			var value string
			if value, rest = cut(rest); !yield(key, value) {
				return
			}
		}
	}
}

// cut splits valid JSON after its first value.
func cut(b string) (value, rest string) {
	end, depth := 0, 0
	for {
		switch b[end] {
		case '"':
			end += stringLen(b[end:])
		case '{', '[':
			depth++
			end++
		case '}', ']':
			depth--
			end++
		case ' ', '\t', '\r', '\n', ',', ':':
			end++ // between values, for one begins at once
		default:
			for end < len(b) && strings.IndexByte(" \t\r\n,:]}", b[end]) < 0 {
				end++
			}
		}
		if depth == 0 {
			return b[:end], b[end:]
		}
	}
}

// stringLen is the length of the JSON string that b begins with.
func stringLen(b string) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// text is what a JSON string says, as a part of it where it can be.
func text(raw string) string {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	_ = json.Unmarshal([]byte(raw), &s) // it is valid
	return s
}

// maxNames bounds how many names of fields are kept for the next object.
const maxNames = 64

func (d *decoder) name(key string) string {
	raw := key[1 : len(key)-1]
	if name, known := d.names[raw]; known {
		return name
	}
	name := text(key)
	if len(d.names) < maxNames {
		d.names[raw] = name
	}
	return name
}
