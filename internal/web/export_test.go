package web

// What tests hold by itself.
var (
	Handler     = handler
	MaxInFlight = maxInFlight
)

// MaxConnections is how many connections one listener has.
const MaxConnections = maxConnections
