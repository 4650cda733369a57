package rpcfault

import (
	"bytes"
	"encoding/json"
)

// Faults in the JSON-RPC envelope of every answer.
var (
	WrongID = Fault{Name: "wrong ids", Reply: func(_ Call, a *Answer) { a.ID = json.RawMessage(`"` + string(bytes.Trim(a.ID, `"`)) + `0"`) }}

	WrongVersion = Fault{Name: "wrong version", Reply: func(_ Call, a *Answer) { a.Version = "1.0" }}

	ErrorAndResult = Fault{Name: "error and result", Reply: func(_ Call, a *Answer) { a.Error = &Error{-32000, "it went wrong, and yet"} }}
)

// Null answers every call of a method with null. An empty method means all.
func Null(method string) Fault {
	return results("null results", method, func(json.RawMessage) json.RawMessage { return json.RawMessage("null") })
}

// WrongType answers every call of a method with the JSON is.
func WrongType(method, is string) Fault {
	return results("wrong type", method, func(json.RawMessage) json.RawMessage { return json.RawMessage(is) })
}

// OddHex removes one digit from every hex result, ShortWord two, and LongWord adds two.
func OddHex(method string) Fault    { return hexResults("odd hex", method, -1) }
func ShortWord(method string) Fault { return hexResults("short words", method, -2) }
func LongWord(method string) Fault  { return hexResults("long words", method, 2) }

// results changes every result.
func results(name, method string, change func(json.RawMessage) json.RawMessage) Fault {
	return Fault{Name: name, Reply: func(c Call, a *Answer) {
		if (method == "" || method == c.Method) && a.Error == nil && len(a.Result) > 0 {
			a.Result = change(a.Result)
		}
	}}
}

// hexResults appends zeros to hex results, or shortens them.
func hexResults(name, method string, digits int) Fault {
	return results(name, method, func(r json.RawMessage) json.RawMessage {
		if !bytes.HasPrefix(r, []byte(`"0x`)) || len(r)-2+digits < 2 {
			return r
		}
		text := r[: len(r)-1 : len(r)-1]
		if digits < 0 {
			text = text[: len(text)+digits : len(text)+digits]
		} else {
			text = append(text, bytes.Repeat([]byte("0"), digits)...)
		}
		return append(text, '"')
	})
}
