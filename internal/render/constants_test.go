package render_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// constants returns the string constants of package audit by type, as the source has them, so that a new one cannot be
// forgotten here. Reasons have no type and are listed as "Reason".
func constants(t *testing.T) map[string][]string {
	t.Helper()
	values := map[string][]string{}
	for _, file := range []string{"../../audit/enums.go", "../../audit/report.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			v, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			key := "untyped"
			if typ, ok := spec.Type.(*ast.Ident); ok {
				key = typ.Name
			} else if strings.HasPrefix(spec.Names[0].Name, "Reason") {
				key = "Reason"
			}
			values[key] = append(values[key], v)
			return true
		})
	}
	return values
}
