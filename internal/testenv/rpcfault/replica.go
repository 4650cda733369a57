package rpcfault

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Stale is a node that stopped at block head. Every 32nd block is finalized. newer reports whether a block hash is newer than head.
func Stale(head uint64, newer func(hash string) bool) Fault {
	at, final := json.RawMessage(fmt.Sprintf(`"0x%x"`, head)), json.RawMessage(fmt.Sprintf(`"0x%x"`, head/32*32))
	return Fault{
		Name: "stale replica",
		Ask: func(c *Call) {
			for i, p := range c.Params {
				switch string(p) {
				case `"latest"`, `"safe"`, `"pending"`:
					c.Params[i] = at
				case `"finalized"`:
					c.Params[i] = final
				}
			}
		},
		Reply: func(c Call, a *Answer) {
			for i, p := range c.Params {
				if !ahead(p, head, newer) {
					continue
				}
				// The node answers for a block that it has, or with an unknown block.
				switch {
				case strings.HasPrefix(c.Method, "eth_getBlockBy") && i == 0:
					a.Result, a.Error = json.RawMessage("null"), nil
				case c.Method == "eth_getLogs":
					a.Result, a.Error = json.RawMessage("[]"), nil
				default:
					a.Result, a.Error = nil, &Error{-32000, "header not found"}
				}
			}
		},
	}
}

// ahead reports whether a parameter is a block newer than head.
func ahead(p json.RawMessage, head uint64, newer func(string) bool) bool {
	var filter struct{ BlockHash, ToBlock string }
	var text string
	switch {
	case json.Unmarshal(p, &text) == nil:
	case json.Unmarshal(p, &filter) == nil && filter.BlockHash != "":
		text = filter.BlockHash
	default:
		text = filter.ToBlock
	}
	if len(text) == 66 {
		return newer(text)
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
	return strings.HasPrefix(text, "0x") && len(text) < 20 && err == nil && n > head
}

// Pruned has no state. It refuses calls with geth's message.
var Pruned = Fault{Name: "pruned state", Reply: func(c Call, a *Answer) {
	switch c.Method {
	case "eth_call", "eth_getCode", "eth_getProof", "eth_getStorageAt":
		if !ProbesBlockHash(c, a) {
			a.Result, a.Error = nil, &Error{-32000, "missing trie node 5eed (path ) state 0x5eed is not available"}
		}
	}
}}
