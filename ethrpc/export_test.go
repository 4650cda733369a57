package ethrpc

import (
	"encoding/json"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// ReadProof decodes the answer to eth_getProof for n keys.
var ReadProof = decodeProof

// ReadBool decodes the answer to eth_call of a list's getter.
func ReadBool(raw json.RawMessage) (bool, error) {
	a := answerOf(&transport.Call{Result: raw})
	return a.Allowed, a.Err
}

// ReadMulticall decodes the answer to a multicall of n calls.
func ReadMulticall(raw json.RawMessage, n int) ([]byte, error) {
	return decodeMulticall(&transport.Call{Result: raw}, n)
}

// Forget drops the proof cache.
func (c *Client) Forget() {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.proven.Store(nil)
}

// Spend adds d to the time that code ran.
func (c *ProvenCalls) Spend(d time.Duration) { c.ran += d }
