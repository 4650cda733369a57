package rpcfault

import (
	"net/http"
	"strings"
)

// Join combines several faults, which act in order on every request. The first HTTP hook that answers wins, and the last Send hook.
func Join(faults ...Fault) Fault {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.Name
	}
	var send func(http.ResponseWriter, []byte)
	for _, f := range faults {
		if f.Send != nil {
			send = f.Send
		}
	}
	return Fault{
		Send: send,
		Name: strings.Join(names, ", "),
		HTTP: func(w http.ResponseWriter, r *http.Request, calls []Call, batch bool) bool {
			for _, f := range faults {
				if f.HTTP != nil && f.HTTP(w, r, calls, batch) {
					return true
				}
			}
			return false
		},
		Ask: func(c *Call) {
			for _, f := range faults {
				if f.Ask != nil {
					f.Ask(c)
				}
			}
		},
		Reply: func(c Call, a *Answer) {
			for _, f := range faults {
				if f.Reply != nil {
					f.Reply(c, a)
				}
			}
		},
		Batch: func(a []Answer) []Answer {
			for _, f := range faults {
				if f.Batch != nil && len(a) > 0 {
					a = f.Batch(a)
				}
			}
			return a
		},
	}
}
