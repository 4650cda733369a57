package web

// What tests hold by itself.
var (
	Handler = handler
	Limit   = limit
	Few     = few
)
