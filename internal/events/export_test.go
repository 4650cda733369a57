package events

import "github.com/ethereum/go-ethereum/common"

// Decode turns the logs of a piece into events.
var Decode = decode

// Topics returns those of the events that count.
func Topics() []common.Hash { return topicsOf("", devices, images, mrs, apps, implementations) }
