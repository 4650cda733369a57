package config

import (
	"reflect"
	"strings"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
)

// Keys are the paths of all keys of the file, such as chains[].providers[].url.
var Keys = keyPaths(reflect.TypeFor[Config](), "")

func keyPaths(t reflect.Type, path string) (all []string) {
	switch t {
	case reflect.TypeFor[ethrpc.Provider]():
		t = reflect.TypeFor[fileProvider]()
	case reflect.TypeFor[anchor.Endpoint]():
		t = reflect.TypeFor[fileEndpoint]()
	case reflect.TypeFor[Exception]():
		t = reflect.TypeFor[fileAccept]()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return keyPaths(t.Elem(), path)
	case reflect.Slice:
		return keyPaths(t.Elem(), path+"[]")
	case reflect.Struct:
		keys, fields := keysOf(t)
		for _, key := range keys {
			at := strings.TrimPrefix(path+"."+key, ".")
			all = append(append(all, at), keyPaths(t.Field(fields[key]).Type, at)...)
		}
	}
	return all
}
