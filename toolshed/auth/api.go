package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The scopes of this API.
const (
	ScopeRead  Scope = "auth:read"
	ScopeWrite Scope = "auth:write"
)

// Register puts the operations on tokens, and the question who asks, on an API.
func Register(api huma.API, tokens *Keeper) {
	h := handlers{tokens: tokens}
	const path = "/api/auth/tokens"
	huma.Register(api, huma.Operation{
		OperationID: "whoami", Method: http.MethodGet, Path: "/api/whoami", Tags: []string{"auth"},
		Summary: "Who asks, how they are known and what they may do", Security: Public(),
		Errors: []int{http.StatusUnauthorized},
	}, whoami)
	huma.Register(api, huma.Operation{
		OperationID: "auth-list-tokens", Method: http.MethodGet, Path: path, Tags: []string{"auth"},
		Summary: "List tokens, without their secrets", Security: Needs(ScopeRead),
	}, h.list)
	huma.Register(api, huma.Operation{
		OperationID: "auth-mint-token", Method: http.MethodPost, Path: path, Tags: []string{"auth"},
		Summary: "Make a token that may do no more than the caller", Security: Needs(ScopeWrite), DefaultStatus: http.StatusCreated,
		Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage},
	}, h.mint)
	huma.Register(api, huma.Operation{
		OperationID: "auth-revoke-token", Method: http.MethodDelete, Path: path + "/{id}", Tags: []string{"auth"},
		Summary: "End a token, and those that were made with it", Security: Needs(ScopeWrite), DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusForbidden, http.StatusNotFound},
	}, h.revoke)
}

type handlers struct{ tokens *Keeper }

type whoamiOutput struct {
	Body struct {
		Way     Way        `json:"way" enum:"owner,token,cookie" doc:"how the caller is known"`
		Owner   string     `json:"owner,omitempty" doc:"the owner's public key, in hex"`
		Token   string     `json:"token,omitempty" doc:"the token's id"`
		Name    string     `json:"name,omitempty"`
		Scopes  Scopes     `json:"scopes"`
		Expires *time.Time `json:"expires,omitempty"`
	}
}

func whoami(ctx context.Context, _ *struct{}) (*whoamiOutput, error) {
	c := FromContext(ctx)
	if c == nil {
		id, _ := ctx.Value(identityKey{}).(identity)
		return nil, problem.New(http.StatusUnauthorized, "unauthenticated", id.reason)
	}
	out := &whoamiOutput{}
	out.Body.Way, out.Body.Owner, out.Body.Token, out.Body.Name = c.Way, c.Owner, c.Token, c.Name
	out.Body.Scopes, out.Body.Expires = c.Scopes, whenNotZero(c.Expires)
	return out, nil
}

func whenNotZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type shownToken struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Scopes  Scopes     `json:"scopes"`
	Created time.Time  `json:"created"`
	By      string     `json:"minted_by,omitempty" doc:"the token that it was made with, and with which it ends"`
	Expires *time.Time `json:"expires,omitempty"`
}

func show(t Token) shownToken {
	return shownToken{ID: t.ID, Name: t.Name, Scopes: t.Scopes, Created: t.Created, By: t.MintedBy, Expires: whenNotZero(t.Expires)}
}

type listOutput struct {
	Body struct {
		Tokens []shownToken `json:"tokens"`
	}
}

func (h handlers) list(context.Context, *struct{}) (*listOutput, error) {
	out := &listOutput{}
	out.Body.Tokens = []shownToken{}
	for _, t := range h.tokens.List() {
		out.Body.Tokens = append(out.Body.Tokens, show(t))
	}
	return out, nil
}

type mintInput struct {
	Body struct {
		Name    string     `json:"name" minLength:"1" maxLength:"100" doc:"what the token is for"`
		Scopes  []string   `json:"scopes" minItems:"1" maxItems:"64" doc:"what it may do: api:verb, api:* or *"`
		Expires *time.Time `json:"expires,omitempty" doc:"when it ends; never where this is missing"`
	}
}

type mintOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Token string `json:"token" doc:"the secret; it is not shown again"`
		shownToken
	}
}

func (h handlers) mint(ctx context.Context, in *mintInput) (*mintOutput, error) {
	caller := FromContext(ctx)
	scopes := make(Scopes, 0, len(in.Body.Scopes))
	for i, text := range in.Body.Scopes {
		s, err := ParseScope(text)
		if err != nil {
			return nil, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("body.scopes[%d]: %v", i, err))
		}
		if !caller.Scopes.Cover(s) {
			return nil, problem.New(http.StatusForbidden, "scope-missing", fmt.Sprintf("body.scopes[%d]: the caller lacks the scope %s, and cannot give it", i, s))
		}
		scopes = append(scopes, s)
	}
	expires := caller.Expires
	if in.Body.Expires != nil {
		expires = in.Body.Expires.UTC().Truncate(time.Millisecond)
		if !expires.After(h.tokens.now()) {
			return nil, problem.Of(http.StatusUnprocessableEntity, "body.expires: is over already")
		}
	}
	if !caller.Expires.IsZero() && expires.After(caller.Expires) {
		return nil, problem.New(http.StatusForbidden, "too-late", "body.expires: the caller's own token ends before")
	}
	text, t, err := h.tokens.Mint(ctx, caller.Token, in.Body.Name, scopes, expires)
	if err != nil {
		return nil, refusal(err)
	}
	out := &mintOutput{CacheControl: "no-store"}
	out.Body.Token, out.Body.shownToken = text, show(t)
	return out, nil
}

type revokeInput struct {
	ID string `path:"id" minLength:"26" maxLength:"26"`
}

func (h handlers) revoke(ctx context.Context, in *revokeInput) (*struct{}, error) {
	// Whoever may do everything may end everything; a token else itself and what
	// came of it, never its maker or a stranger.
	by := ""
	if caller := FromContext(ctx); !caller.Scopes.Cover(Everything) {
		by = caller.Token
	}
	return nil, refusal(h.tokens.Revoke(ctx, by, in.ID))
}

func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoToken):
		return problem.Of(http.StatusNotFound, ErrNoToken.Error())
	case errors.Is(err, ErrNotOurs):
		return problem.New(http.StatusForbidden, "scope-missing", ErrNotOurs.Error())
	case errors.Is(err, ErrTooManyTokens):
		return problem.New(http.StatusConflict, "too-many-tokens", ErrTooManyTokens.Error())
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", store.ErrFull.Error())
	}
	return problem.Of(http.StatusInternalServerError, "the store of tokens failed")
}
