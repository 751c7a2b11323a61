package functions

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// The scopes of this API.
const (
	ScopeRead   auth.Scope = "functions:read"
	ScopeWrite  auth.Scope = "functions:write"
	ScopeInvoke auth.Scope = "functions:invoke"
)

const path = "/api/functions"

// Register puts the functions on an API's place.
func Register(m *mount.Mount, s *Service) {
	m.Report(s)
	h := handlers{s}
	h.registerPage(m)
	op := func(scope auth.Scope, id, method, below, summary string, refusals ...int) huma.Operation {
		return huma.Operation{
			OperationID: "functions-" + id, Method: method, Path: path + below, Tags: []string{"functions"}, Summary: summary,
			Security: auth.Needs(scope), Errors: append(refusals, http.StatusUnprocessableEntity),
		}
	}
	done := func(o huma.Operation) huma.Operation { o.DefaultStatus = http.StatusNoContent; return o }
	const one = "/{name}"
	huma.Register(m.API, op(ScopeRead, "list", http.MethodGet, "", "List functions with what they have cost"), h.list)
	deploy := op(ScopeWrite, "deploy", http.MethodPut, one, "Keep a module as a function's next version, which is called from then on",
		http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInsufficientStorage)
	deploy.MaxBodyBytes, deploy.DefaultStatus = sandbox.MaxModuleBytes, http.StatusCreated
	deploy.RequestBody = &huma.RequestBody{Description: "the module", Content: map[string]*huma.MediaType{
		"application/wasm": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
	}}
	huma.Register(m.API, deploy, h.deploy)
	huma.Register(m.API, op(ScopeRead, "get", http.MethodGet, one, "Read a function with its versions", http.StatusNotFound), h.get)
	huma.Register(m.API, done(op(ScopeWrite, "delete", http.MethodDelete, one, "Delete a function with all that it has", http.StatusNotFound)), h.delete)
	huma.Register(m.API, op(ScopeWrite, "settings", http.MethodPut, one+"/settings", "Replace a function's settings", http.StatusNotFound), h.settings)
	huma.Register(m.API, done(op(ScopeWrite, "rollback", http.MethodPost, one+"/rollback", "Have another version called", http.StatusNotFound)), h.rollback)
	huma.Register(m.API, op(ScopeRead, "logs", http.MethodGet, one+"/logs", "Read what calls wrote to their standard error, and what they cost", http.StatusNotFound), h.logs)
	huma.Register(m.API, done(op(ScopeWrite, "set-secret", http.MethodPut, one+"/secrets/{key}", "Keep a secret, which the function sees as a variable", http.StatusNotFound)), h.setSecret)
	huma.Register(m.API, done(op(ScopeWrite, "delete-secret", http.MethodDelete, one+"/secrets/{key}", "Delete a secret", http.StatusNotFound)), h.deleteSecret)
	for _, pattern := range []string{path + one + "/invoke", path + one + "/invoke/{rest...}"} {
		m.Handle(pattern, invokeRoute, http.HandlerFunc(s.invoke))
	}
}

type handlers struct{ *Service }

// NameInput is a request about one function: the framework fills in exported
// parts alone.
type NameInput struct {
	Name string `path:"name" minLength:"1" maxLength:"63" pattern:"^[a-z]([a-z0-9-]*[a-z0-9])?$" doc:"a label of a host's name"`
}

type listOutput struct {
	Body struct {
		Functions []Function `json:"functions"`
	}
}

func (h handlers) list(ctx context.Context, _ *struct{}) (*listOutput, error) {
	out := &listOutput{}
	var err error
	if err = h.ledger.flush(ctx); err == nil {
		out.Body.Functions, err = h.shelf.list(ctx)
	}
	return out, orNil(err)
}

// deployInput has its body by hand: a module is no JSON.
type deployInput struct {
	NameInput
	body io.Reader
	kind string
}

func (in *deployInput) Resolve(ctx huma.Context) []error {
	in.body, in.kind = ctx.BodyReader(), ctx.Header("Content-Type")
	return nil
}

type deployOutput struct {
	Status int
	Body   struct {
		Name    string `json:"name"`
		Version int64  `json:"version"`
		New     bool   `json:"new" doc:"whether it is another module than the one before"`
	}
}

func (h handlers) deploy(ctx context.Context, in *deployInput) (*deployOutput, error) {
	if in.kind != "application/wasm" {
		return nil, problem.Of(http.StatusUnsupportedMediaType, "content-type: want application/wasm")
	}
	b, err := io.ReadAll(io.LimitReader(in.body, sandbox.MaxModuleBytes+1))
	switch {
	case err != nil:
		return nil, problem.Of(http.StatusBadRequest, "body: it cannot be read")
	case len(b) > sandbox.MaxModuleBytes:
		return nil, problem.New(http.StatusRequestEntityTooLarge, "too-large", "the body has more bytes than a module may have")
	}
	if err := h.mayRun(ctx, in.Name, Settings{}); err != nil {
		return nil, refusal(err)
	}
	out := &deployOutput{Status: http.StatusCreated}
	out.Body.Name = in.Name
	if out.Body.Version, out.Body.New, err = h.Deploy(ctx, in.Name, b); err != nil {
		return nil, refusal(err)
	}
	if !out.Body.New {
		out.Status = http.StatusOK
	}
	return out, nil
}

type getOutput struct {
	Body struct {
		Function
		Versions []Version `json:"versions" doc:"the latest first"`
	}
}

func (h handlers) get(ctx context.Context, in *NameInput) (*getOutput, error) {
	out := &getOutput{}
	err := h.ledger.flush(ctx)
	if err == nil {
		out.Body.Function, _, err = h.shelf.get(ctx, in.Name)
	}
	if err == nil {
		out.Body.Versions, err = h.shelf.versions(ctx, in.Name)
	}
	return out, orNil(err)
}

func (h handlers) delete(ctx context.Context, in *NameInput) (*struct{}, error) {
	return nil, orNil(h.Remove(ctx, in.Name))
}

type settingsInput struct {
	NameInput
	Body Settings
}

func (h handlers) settings(ctx context.Context, in *settingsInput) (*getOutput, error) {
	if err := h.mayRun(ctx, in.Name, in.Body); err != nil {
		return nil, refusal(err)
	}
	if err := h.Set(ctx, in.Name, in.Body); err != nil {
		return nil, refusal(err)
	}
	return h.get(ctx, &in.NameInput)
}

type rollbackInput struct {
	NameInput
	Body struct {
		Version int64 `json:"version" minimum:"1"`
	}
}

func (h handlers) rollback(ctx context.Context, in *rollbackInput) (*struct{}, error) {
	return nil, orNil(h.rollBack(ctx, in.Name, in.Body.Version))
}

type logsInput struct {
	NameInput
	After int64 `query:"after" minimum:"0" doc:"only calls after the one with this id; without it the latest"`
	Limit int   `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type logsOutput struct {
	Body struct {
		Calls []Entry `json:"calls" doc:"the oldest first"`
	}
}

func (h handlers) logs(ctx context.Context, in *logsInput) (*logsOutput, error) {
	out := &logsOutput{}
	var err error
	out.Body.Calls, err = h.Logs(ctx, in.Name, in.After, in.Limit)
	return out, orNil(err)
}

// SecretInput is a request about one secret.
type SecretInput struct {
	NameInput
	Key string `path:"key" minLength:"1" maxLength:"64"`
}

type setSecretInput struct {
	SecretInput
	Body struct {
		Value string `json:"value" maxLength:"16384"`
	}
}

func (h handlers) setSecret(ctx context.Context, in *setSecretInput) (*struct{}, error) {
	return nil, orNil(h.shelf.setSecret(ctx, in.Name, in.Key, in.Body.Value))
}

func (h handlers) deleteSecret(ctx context.Context, in *SecretInput) (*struct{}, error) {
	return nil, orNil(h.shelf.removeSecret(ctx, in.Name, in.Key))
}

// orNil is a refusal as the framework takes it.
func orNil(err error) error {
	if err == nil {
		return nil
	}
	return refusal(err)
}
