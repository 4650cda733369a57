package rpcfault

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"sync"
)

// LieInCalls changes the last digit of every word that eth_call returns, and of every byte that a multicall returns.
var LieInCalls = Fault{Name: "lies in eth_call", Reply: func(c Call, a *Answer) {
	if c.Method != "eth_call" || a.Error != nil || len(c.Params) == 0 {
		return
	}
	switch creates := !bytes.Contains(c.Params[0], []byte(`"to"`)); {
	case creates:
		for at := len(`"0x`) + 1; at < len(a.Result)-1; at += 2 {
			a.Result = turn(a.Result, at)
		}
	case len(a.Result) == len(`"0x"`)+64:
		a.Result = turn(a.Result, len(a.Result)-2)
	}
}}

// LieInStorage changes the last digit of every word that eth_getStorageAt returns.
var LieInStorage = results("lies in eth_getStorageAt", "eth_getStorageAt", func(r json.RawMessage) json.RawMessage {
	return turn(r, len(r)-2)
})

// LieInProofs changes one random digit of each eth_getProof.
func LieInProofs(seed uint64) Fault {
	return results("lies in proofs", "eth_getProof", func(r json.RawMessage) json.RawMessage {
		from := max(bytes.Index(r, []byte("accountProof")), 0)
		return turn(r, from+rand.New(rand.NewPCG(seed, 0)).IntN(len(r)-from))
	})
}

// LieInBlocks gives every block another hash, and also answers for the block with that hash.
func LieInBlocks() Fault {
	var mu sync.Mutex
	truly := map[string]string{} // true hash by false hash
	return Fault{
		Name: "lies in block hashes",
		Ask: func(c *Call) {
			mu.Lock()
			defer mu.Unlock()
			for i, p := range c.Params {
				for said, is := range truly {
					c.Params[i] = bytes.ReplaceAll(p, []byte(said), []byte(is))
					if !bytes.Equal(p, c.Params[i]) {
						break
					}
				}
			}
		},
		Reply: func(_ Call, a *Answer) {
			mark := []byte(`"hash":"0x`)
			at := bytes.Index(a.Result, mark)
			if at < 0 || !bytes.Contains(a.Result, []byte(`"stateRoot"`)) {
				return
			}
			from := at + len(mark)
			lie := turn(a.Result, from+63)
			mu.Lock()
			defer mu.Unlock()
			truly[string(lie[from:from+64])] = string(a.Result[from : from+64])
			a.Result = lie
		},
	}
}

// OtherCode answers every eth_getCode with code.
func OtherCode(code string) Fault {
	return results("lies in eth_getCode", "eth_getCode", func(json.RawMessage) json.RawMessage { return json.RawMessage(`"` + code + `"`) })
}

// DropLogs keeps only the first keep logs.
func DropLogs(keep int) Fault {
	return logs("drops logs", func(l []json.RawMessage) []json.RawMessage { return l[:min(keep, len(l))] })
}

// InventLogs adds a log to every answer that has one. Its id and its place do not exist.
var InventLogs = logs("invents logs", func(l []json.RawMessage) []json.RawMessage {
	if len(l) == 0 {
		return l
	}
	var log map[string]any
	if json.Unmarshal(l[0], &log) != nil {
		return l
	}
	if data, ok := log["data"].(string); ok && len(data) == 66 {
		log["data"] = "0x" + string(bytes.Repeat([]byte("5e"), 32))
	}
	log["logIndex"] = "0xfff"
	made, err := json.Marshal(log)
	if err != nil {
		return l
	}
	return append(l, made)
})

func logs(name string, change func([]json.RawMessage) []json.RawMessage) Fault {
	return results(name, "eth_getLogs", func(r json.RawMessage) json.RawMessage {
		l := []json.RawMessage{}
		if json.Unmarshal(r, &l) != nil {
			return r
		}
		out, err := json.Marshal(change(l))
		if err != nil {
			return r
		}
		return out
	})
}

// turn changes the hex digit at a place. It leaves other characters unchanged.
func turn(r json.RawMessage, at int) json.RawMessage {
	const digits = "0123456789abcdef"
	out := bytes.Clone(r)
	if i := bytes.IndexByte([]byte(digits), out[at]); i >= 0 {
		out[at] = digits[i^1]
	}
	return out
}
