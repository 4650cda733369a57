package rpcfault

import (
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Late answers each request after a random delay below most.
func Late(most time.Duration) Fault {
	return Fault{Name: "late", HTTP: func(_ http.ResponseWriter, r *http.Request, _ []Call, _ bool) bool {
		select {
		case <-time.After(rand.N(most)):
			return false
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}}
}

// Reset closes the connection of every request.
var Reset = Fault{Name: "connection reset", HTTP: func(w http.ResponseWriter, _ *http.Request, _ []Call, _ bool) bool {
	ResetConnection(w)
	return true
}}

// ResetConnection closes the connection with a TCP RST.
func ResetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// BreaksOff sends the full Content-Length, and closes the connection after half of the body.
var BreaksOff = Fault{Name: "answer broken off", Send: func(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	panic(http.ErrAbortHandler)
}}

// Truncated sends the first half as a complete answer.
var Truncated = Fault{Name: "answer truncated", Send: func(w http.ResponseWriter, body []byte) { _, _ = w.Write(body[:len(body)/2]) }}

// Corrupt replaces one random byte with a zero byte, which JSON cannot have.
func Corrupt(seed uint64) Fault {
	return Fault{Name: "byte corrupt", Send: func(w http.ResponseWriter, body []byte) {
		body[rand.New(rand.NewPCG(seed, 0)).IntN(len(body))] = 0
		_, _ = w.Write(body)
	}}
}
