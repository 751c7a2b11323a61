package toolshed

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/page"
)

//go:embed reference.html
var referenceText string

var referencePage = page.New("Reference", "", referenceText)

// reference is the OpenAPI document for people.
type reference struct {
	APIs    []referenceAPI
	Schemas []referenceSchema
}

type referenceAPI struct {
	Name       string
	Operations []referenceOperation
}

type referenceOperation struct {
	ID, Method, Path, Summary, Scope string
	Description                      string
	Parameters                       []referenceParameter
	Body                             []referenceContent
	Answers                          []referenceAnswer
}

type referenceParameter struct {
	Name, In, Description, Schema string
	Required                      bool
}

type referenceContent struct{ Type, Schema string }

type referenceAnswer struct {
	Status, Description string
	Content             []referenceContent
}

type referenceSchema struct{ Name, Text string }

func newReference(o *huma.OpenAPI) reference {
	groups := map[string][]referenceOperation{}
	for path, item := range o.Paths {
		for _, op := range operationsOf(item) {
			group := "toolshed"
			if len(op.Tags) > 0 {
				group = op.Tags[0]
			}
			groups[group] = append(groups[group], newReferenceOperation(op.Method, path, op))
		}
	}
	var r reference
	for name, operations := range groups {
		slices.SortFunc(operations, func(a, b referenceOperation) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
		})
		r.APIs = append(r.APIs, referenceAPI{Name: name, Operations: operations})
	}
	slices.SortFunc(r.APIs, func(a, b referenceAPI) int { return cmp.Compare(a.Name, b.Name) })
	for name, s := range o.Components.Schemas.Map() {
		r.Schemas = append(r.Schemas, referenceSchema{Name: name, Text: indented(s)})
	}
	slices.SortFunc(r.Schemas, func(a, b referenceSchema) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

// operationsOf are a path's.
func operationsOf(item *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch, item.Head, item.Options}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil || op.Hidden })
}

func newReferenceOperation(method, path string, op *huma.Operation) referenceOperation {
	shown := referenceOperation{
		ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: op.Description, Scope: scopesOf(op),
	}
	for _, p := range op.Parameters {
		shown.Parameters = append(shown.Parameters, referenceParameter{
			Name: p.Name, In: p.In, Required: p.Required, Description: cmp.Or(p.Description, descriptionOf(p.Schema)), Schema: short(p.Schema),
		})
	}
	if op.RequestBody != nil {
		shown.Body = contents(op.RequestBody.Content)
	}
	for status, answer := range op.Responses {
		shown.Answers = append(shown.Answers, referenceAnswer{Status: status, Description: answer.Description, Content: contents(answer.Content)})
	}
	slices.SortFunc(shown.Answers, func(a, b referenceAnswer) int { return cmp.Compare(a.Status, b.Status) })
	return shown
}

// scopesOf is what an operation takes, as the guard judges it.
func scopesOf(op *huma.Operation) string {
	if op.Security == nil {
		return string(auth.Everything)
	}
	var all []string
	for _, way := range op.Security {
		all = append(all, way[auth.SecurityScheme]...)
	}
	return strings.Join(all, ", ")
}

func contents(all map[string]*huma.MediaType) []referenceContent {
	var shown []referenceContent
	for name, m := range all {
		shown = append(shown, referenceContent{Type: name, Schema: short(m.Schema)})
	}
	slices.SortFunc(shown, func(a, b referenceContent) int { return cmp.Compare(a.Type, b.Type) })
	return shown
}

func descriptionOf(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	return s.Description
}

// short names a schema in a few words.
func short(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	case s.Type == huma.TypeArray && s.Items != nil:
		return "array of " + short(s.Items)
	case s.Format != "":
		return fmt.Sprintf("%s (%s)", s.Type, s.Format)
	}
	return s.Type
}

func indented(s *huma.Schema) string {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}
