package matrix_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// maxProviders is how many a case may have.
const maxProviders = 3

// bench is what all cases share: a chain, and ports.
type bench struct {
	node  *node
	cases int
	ports [maxProviders + 1]*httptest.Server // the last is the API's
	doors [maxProviders + 1]atomic.Pointer[http.Handler]
}

func newBench() *bench {
	b := &bench{}
	for i := range b.ports {
		b.ports[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*b.doors[i].Load()).ServeHTTP(w, r) }))
	}
	return b
}

func (b *bench) close() {
	for _, p := range b.ports {
		p.CloseClientConnections()
		p.Close()
	}
	b.drop()
}

// drop ends the chain: the next case begins another.
func (b *bench) drop() {
	if b.node != nil {
		b.node.Close()
		b.node = nil
	}
}

// perChain is after how many cases a chain has become long enough. It is too after many reorganisations: a node takes no
// transaction that costs more than an ether.
const perChain = 300

func (b *bench) chain(ctx context.Context) (_ *node, err error) {
	if b.cases++; b.node != nil && (b.cases%perChain == 0 || b.node.tip > 2e11) {
		b.drop()
	}
	if b.node == nil {
		b.node, err = startNode(ctx)
	}
	return b.node, err
}
