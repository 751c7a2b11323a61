// Package auth says who asks and what they may do.
//
// Invariants: a caller is known in one of three ways, by the agent's word, by a
// token, or by a token in a cookie; of a token only its digest is kept; a
// scope is checked in one place, from what the operation declares, and what
// declares nothing is for those alone who may do everything; nobody gives more
// than they have, nor for longer; with a token ends what lasts; no secret goes
// on to an API, but the token by Bearer, where a protocol gives it back to who
// bore it.
package auth

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Scope is one thing that a caller may do, as api:verb. api:* is everything in
// an API, * everything.
type Scope string

// Everything is the scope of the owner.
const Everything Scope = "*"

var validScope = regexp.MustCompile(`^(\*|[a-z][a-z0-9-]{0,31}:(\*|[a-z][a-z0-9-]{0,31}))$`)

// Covers reports whether who has this scope has the other.
func (s Scope) Covers(other Scope) bool {
	if s == Everything || s == other {
		return true
	}
	api, all := strings.CutSuffix(string(s), ":*")
	return all && strings.HasPrefix(string(other), api+":")
}

// Scopes is what a caller may do.
type Scopes []Scope

// Cover reports whether any of them does.
func (s Scopes) Cover(other Scope) bool {
	return slices.ContainsFunc(s, func(one Scope) bool { return one.Covers(other) })
}

// ParseScope reads one scope.
func ParseScope(text string) (Scope, error) {
	if !validScope.MatchString(text) {
		return "", fmt.Errorf("scope %.70q: want api:verb, api:* or *", text)
	}
	return Scope(text), nil
}

// Way is how a caller was known.
type Way string

// The ways.
const (
	WayOwner  Way = "owner"
	WayToken  Way = "token"
	WayCookie Way = "cookie"
)

// Caller is who asks.
type Caller struct {
	Way Way
	// Owner is the owner's public key, in hex, where the agent says so.
	Owner string
	// Token is the id of the token, and Name what its maker called it.
	Token, Name string
	Scopes      Scopes
	// Expires is when the token does; zero for never.
	Expires time.Time
}

// identity is what a request showed: a caller, or why there is none.
type identity struct {
	caller *Caller
	reason string
	// bearer is the token that was borne, and nothing for a cookie.
	bearer string
	// tokens keeps the caller's token; nil where there is none.
	tokens *Keeper
}

type identityKey struct{}

// FromContext is the caller of a request; nil for nobody.
func FromContext(ctx context.Context) *Caller {
	id, _ := ctx.Value(identityKey{}).(identity)
	return id.caller
}

// Lasting is a context for what lasts: it ends with the caller's token too.
func Lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	id, _ := ctx.Value(identityKey{}).(identity)
	ctx, cancel := context.WithCancel(ctx)
	if id.tokens == nil {
		return ctx, cancel
	}
	leave := id.tokens.follow(id.caller.Token, cancel)
	return ctx, func() { leave(); cancel() }
}

// Bearer is the token that a request bore, empty where it was known in another
// way. It is for answering it to the same caller, and nothing else.
func Bearer(ctx context.Context) string {
	id, _ := ctx.Value(identityKey{}).(identity)
	return id.bearer
}

// WithCaller is a context in which the caller is known, for what an API does
// later on somebody's behalf.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, identityKey{}, identity{caller: c})
}
