package web

import "net/http"

// MaxInFlight is what tests hold by itself.
var MaxInFlight = maxInFlight

// Handler is what Serve serves.
func Handler(o Options) (http.Handler, error) { return handler(o), nil }

// MaxConnections is how many connections one listener has, those for probes among them.
const MaxConnections = maxConnections + reserved
