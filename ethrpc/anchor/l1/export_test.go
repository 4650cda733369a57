package l1

// Decode exports decode.
var Decode = decode
