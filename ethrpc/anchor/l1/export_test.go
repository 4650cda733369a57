package l1

// Decode is how answers are decoded.
var Decode = decode
