package ethrpc

import (
	"time"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Options configure a Client.
type Options struct {
	ChainID   uint64     // what eth_chainId must answer
	Tags      []BlockTag // in order of preference; at least one
	Verify    Verify
	Agreement int        // how many providers must say the same; 0: one
	BatchSize int        // calls in one JSON-RPC batch, 1 or more
	Providers []Provider // in order of preference; at least one
	UserAgent string
	Observer  Observer // nil: nobody looks
	// RetryDelay is the wait before the second try of a call that met a passing fault; it doubles. Zero: 500 ms.
	RetryDelay time.Duration
}

// Provider is one JSON-RPC endpoint over HTTP. Everything but Name is secret.
type Provider struct {
	Name              string
	URL               sanitize.Secret
	Headers           map[string]sanitize.Secret
	Timeout           time.Duration // of one HTTP round trip; zero: 20 s
	RequestsPerSecond float64       // HTTP requests; zero: no limit
}

// Observer is told what the client asks of its providers. It is called from several goroutines.
type Observer interface {
	// RoundTrip: one HTTP request was answered, or failed, after took.
	RoundTrip(provider string, took time.Duration)
	// Call: one JSON-RPC call ended in result, one of Results.
	Call(provider, method, result string)
	// Head: the provider's newest block has the time t.
	Head(provider string, t time.Time)
}

// Methods lists every JSON-RPC method that a Client sends.
var Methods = []string{
	"eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getCode", "eth_getStorageAt", "eth_call",
	"eth_createAccessList", "eth_getProof", "eth_getLogs", "eth_getTransactionByHash",
}

// What became of one JSON-RPC call.
const (
	ResultOK      = "ok"      // a result came; whether it is a good one is the caller's to judge
	ResultError   = "error"   // the provider answered with an error object
	ResultFailed  = "failed"  // no usable answer came: network, HTTP status, malformed body
	ResultTimeout = "timeout" // no answer in time
)

// Results lists every result of Observer.Call.
var Results = []string{ResultOK, ResultError, ResultFailed, ResultTimeout}
