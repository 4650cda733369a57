package transport

import "time"

// Observer is told what is asked of providers. It is called from several goroutines.
type Observer interface {
	// RoundTrip: one HTTP request was answered, or failed, after took.
	RoundTrip(provider string, took time.Duration)
	// Call: one JSON-RPC call ended in result, one of Results.
	Call(provider, method, result string)
	// Head: the provider's newest block has the time t.
	Head(provider string, t time.Time)
}

type nopObserver struct{}

func (nopObserver) RoundTrip(string, time.Duration) {}
func (nopObserver) Call(string, string, string)     {}
func (nopObserver) Head(string, time.Time)          {}

// Methods lists every JSON-RPC method that is ever called.
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
