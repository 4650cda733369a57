//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// lies has a lying provider, alone and before an honest one. No lie may be believed.
var lies = slices.Concat(
	caught("getter_disagrees_with_proof", "eth_call of", "the provider flips the answers of calls", answer("eth_call", flipBool)),
	caught("proof_invalid", "invalid proof", "the provider flips a bit in a proof's last node", storageProofs(func(p []proofOf) {
		node := &p[0].Proof[len(p[0].Proof)-1]
		*node = flipLast(*node)
	})),
	caught("proof_invalid", "invalid proof", "the provider swaps two proofs", storageProofs(func(p []proofOf) {
		p[0].Proof, p[len(p)-1].Proof = p[len(p)-1].Proof, p[0].Proof
	})),
	caught("proof_invalid", "invalid proof", "the provider truncates a proof", storageProofs(func(p []proofOf) {
		p[0].Proof = p[0].Proof[:len(p[0].Proof)-1]
	})),
	caught("proof_invalid", "storage proofs for", "the provider leaves a proof out", answer("eth_getProof", func(raw string) string {
		return editProof(raw, func(p []proofOf) []proofOf { return p[:max(len(p)-1, 0)] })
	})),
	caught("proof_invalid", "invalid proof", "the provider proves another account", ask("eth_getProof", func(c *rpcfault.Call) {
		c.Params[0] = json.RawMessage(`"0x` + strings.Repeat("11", 20) + `"`)
	})),
	caught("proof_invalid", "invalid proof", "the provider proves older state", ask("eth_getProof", func(c *rpcfault.Call) {
		c.Params[2] = json.RawMessage(`"0x1"`)
	})),
	caught("proof_invalid", "invalid proof", "the provider gives another contract's code", answer("eth_getCode", flipLast)),
	[]row{
		{sentence: "the values next to a proof are ignored", rests: wholly,
			rpc: answer("eth_getProof", func(raw string) string { return strings.ReplaceAll(raw, `"value":"0x1"`, `"value":"0x0"`) })},
		{sentence: "the provider serves another block's header while proof is required", exit: 3, settings: required,
			rpc: otherHeader, fails: []string{"rpc p1: …the header is that of block"}},
		{sentence: "the second provider proves if the first one serves another block's header", rests: wholly,
			rpc: otherHeader, settings: second, fails: []string{"rpc p1: …the header is that of block"}},

		hideRemoval("the provider hides that an image was removed", 3, nil, "critical getter_disagrees_with_proof", "rpc p1: …eth_call of"),
		hideRemoval("the second provider shows that an image was removed", 1, second, "warning claim_allowed_chain_denied os_image 0.5.7", "rpc p1: …eth_call of"),

		hideAdding("the provider drops one log", dropLogs(image059), scanned, "storage_unaccounted"),
		hideAdding("the second provider has the log that the first one drops", dropLogs(image059), both(scanned, second), "unlisted_chain_allowed os_image 0.5.9"),
		hideAdding("the provider drops all logs", dropLogs(""), scanned, "storage_unaccounted"),
		hideAdding("the second provider has the logs that the first one drops", dropLogs(""), both(scanned, second), "unlisted_chain_allowed os_image 0.5.9"),

		{sentence: "the provider invents the log of a device", before: registerApp, settings: scanned, rpc: inventLog, rests: wholly},
		{sentence: "the provider invents the log of a device before an honest one", settings: both(scanned, second), rpc: inventLog, rests: wholly},
	},
)

// caught returns the two rows of a detected lie.
func caught(kind, says, sentence string, f rpcfault.Fault) []row {
	fails := []string{"rpc p1: …" + says}
	return []row{
		{sentence: sentence, rpc: f, exit: 3, finds: []string{"critical " + kind}, fails: fails},
		{sentence: sentence + " before an honest one", rpc: f, settings: second, fails: fails, rests: wholly},
	}
}

// hideRemoval removes an image. The API and the first provider's calls and logs deny it.
func hideRemoval(sentence string, exit int, change func(*stage, *settings), find string, fails ...string) row {
	return row{
		sentence: sentence, exit: exit, finds: []string{find}, fails: fails, settings: change, claim: says(image057, true),
		before: func(ctx context.Context, s *stage) error { return s.kms.RemoveImage(ctx, id(image057)) },
		after: func(ctx context.Context, s *stage) error {
			return errors.Join(s.kms.AllowImage(ctx, id(image057)), s.advance(ctx))
		},
		rpc: rpcfault.Fault{Name: "removal hidden", Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			dropLogs(image057).Reply(c, a)
			if c.Method == "eth_call" && a.Error == nil && strings.Contains(string(c.Params[0]), image057) {
				a.Result = json.RawMessage(`"0x` + word + `01"`)
			}
		}},
	}
}

// hideAdding allows an image that the API leaves out, and the first provider hides its log.
func hideAdding(sentence string, f rpcfault.Fault, change func(*stage, *settings), find string) row {
	return row{
		sentence: sentence, exit: 1, finds: []string{"critical " + find}, settings: change, claim: leaveOut(image059),
		before: allow059, after: refuse059, rpc: f,
	}
}

func registerApp(ctx context.Context, s *stage) error {
	_, err := s.kms.Send(ctx, "registerApp", s.kms.Address())
	return err
}

func both(changes ...func(*stage, *settings)) func(*stage, *settings) {
	return func(s *stage, c *settings) {
		for _, change := range changes {
			change(s, c)
		}
	}
}

// answer changes the results of a method.
func answer(method string, change func(string) string) rpcfault.Fault {
	return rpcfault.Fault{Name: method, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == method && a.Error == nil {
			a.Result = json.RawMessage(change(string(a.Result)))
		}
	}}
}

// ask changes the calls of a method.
func ask(method string, change func(*rpcfault.Call)) rpcfault.Fault {
	return rpcfault.Fault{Name: method, Ask: func(c *rpcfault.Call) {
		if c.Method == method {
			change(c)
		}
	}}
}

func flipBool(raw string) string {
	if strings.HasSuffix(raw, `1"`) {
		return `"0x` + word + `00"`
	}
	return `"0x` + word + `01"`
}

// flipLast flips the last bit of a hex string.
func flipLast(hex string) string {
	digits := strings.TrimSuffix(hex, `"`)
	at := len(digits) - 1
	flipped := fmt.Sprintf("%x", strings.IndexByte("0123456789abcdef", digits[at])^1)
	return digits[:at] + flipped + hex[at+1:]
}

// proofOf is one proof of an eth_getProof.
type proofOf struct {
	Key   string   `json:"key"`
	Value string   `json:"value"`
	Proof []string `json:"proof"`
}

// storageProofs changes every answer with two or more proofs.
func storageProofs(change func([]proofOf)) rpcfault.Fault {
	return answer("eth_getProof", func(raw string) string {
		return editProof(raw, func(p []proofOf) []proofOf {
			if len(p) > 1 {
				change(p)
			}
			return p
		})
	})
}

func editProof(raw string, change func([]proofOf) []proofOf) string {
	var whole map[string]json.RawMessage
	var list []proofOf
	if err := errors.Join(json.Unmarshal([]byte(raw), &whole), json.Unmarshal(whole["storageProof"], &list)); err != nil {
		panic(err)
	}
	b, err := json.Marshal(change(list))
	whole["storageProof"] = b
	out, err2 := json.Marshal(whole)
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return string(out)
}

// otherHeader keeps hash and number, and takes the other fields from another block.
var otherHeader = answer("eth_getBlockByNumber", func(raw string) string {
	_, rest, found := strings.Cut(raw, `"stateRoot":"`)
	if !found {
		return raw
	}
	return strings.Replace(raw, rest[:66], flipLast(rest[:66]), 1)
})

// dropLogs hides the logs that name an id, or all if it is empty.
func dropLogs(id string) rpcfault.Fault {
	return editLogs(func(logs []json.RawMessage) []json.RawMessage {
		return slices.DeleteFunc(logs, func(l json.RawMessage) bool { return strings.Contains(string(l), id) })
	})
}

// inventLog adds to every log another one, with an id that was never on the chain.
var inventLog = editLogs(func(logs []json.RawMessage) []json.RawMessage {
	for _, l := range slices.Clone(logs) {
		invented := strings.ReplaceAll(string(l), prod5, strings.Repeat("5e", 32))
		logs = append(logs, json.RawMessage(logIndex.ReplaceAllString(invented, `"logIndex":"0x3e${1}"`)))
	}
	return logs
})

var logIndex = regexp.MustCompile(`"logIndex":"0x([0-9a-f]+)"`)

func editLogs(change func([]json.RawMessage) []json.RawMessage) rpcfault.Fault {
	return answer("eth_getLogs", func(raw string) string {
		var logs []json.RawMessage
		if err := json.Unmarshal([]byte(raw), &logs); err != nil {
			panic(err)
		}
		b, err := json.Marshal(append([]json.RawMessage{}, change(logs)...))
		if err != nil {
			panic(err)
		}
		return string(b)
	})
}
