package toolshed

import (
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// document is the settings of the OpenAPI document, which is at /openapi.json.
func document(n *namer) huma.Config {
	c := huma.DefaultConfig("toolshed", Version)
	c.DocsPath, c.SchemasPath = "", ""
	c.CreateHooks = nil
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", n.name)
	c.OnAddOperation = append(c.OnAddOperation, refusals)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		auth.SecurityScheme: {Type: "http", Scheme: "bearer", Description: "a token of this toolshed's; its owner needs none behind the agent"},
	}
	return c
}

// refusals documents what the root and the places of APIs answer instead of any
// operation's own: no token, one that may not, too much at once, and so on.
func refusals(o *huma.OpenAPI, op *huma.Operation) {
	if op.Responses["default"] != nil {
		return
	}
	schema := o.Components.Schemas.Schema(reflect.TypeFor[problem.Problem](), true, "Problem")
	op.Responses["default"] = &huma.Response{
		Description: "Any other refusal", Content: map[string]*huma.MediaType{problem.ContentType: {Schema: schema}},
	}
}

// namer names the schemas of one document: APIs do not know each other, and call
// their types alike.
type namer struct {
	// api is the one that is being registered.
	api string
}

func (n *namer) name(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	owner := n.api
	if t.Name() != "" {
		owner = path.Base(t.PkgPath())
	}
	if t == reflect.TypeFor[problem.Problem]() || owner == "" {
		return name
	}
	var prefix strings.Builder
	for part := range strings.SplitSeq(owner, "-") {
		prefix.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return prefix.String() + name
}
