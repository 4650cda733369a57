package main

// Main is the program, for testscript.
var Main = main
