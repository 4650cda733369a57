package ethrpc

import (
	"encoding/json"
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// ReadProof reads the answer to eth_getProof for n keys.
var ReadProof = decodeProof

// ReadBool reads the answer to eth_call of a list's getter.
func ReadBool(raw json.RawMessage) (bool, error) {
	a := answerOf(&transport.Call{Result: raw})
	return a.Allowed, a.Err
}

// ReadMulticall reads what n calls in one answered.
func ReadMulticall(raw json.RawMessage, n int) ([]byte, error) {
	return decodeMulticall(&transport.Call{Result: raw}, n)
}

// Forget drops what was proven, which otherwise makes the next Read cheap.
func (c *Client) Forget() {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.proven.Store(nil)
}

// Spend counts time that code ran.
func (c *ProvenCalls) Spend(d time.Duration) { c.ran += d }
