package web

var Handler = handler
