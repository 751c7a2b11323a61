package auth

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

const (
	// OwnerHeader is the agent's word that a request is the owner's: their
	// public key in hex. The agent strips it from whatever comes in.
	OwnerHeader = "Shed-Owner"
	// CookieName is that of the token that a browser keeps. Browsers show it to
	// every port of the same host.
	CookieName = "shed_token"
	// SecurityScheme is the name of the scheme in the OpenAPI document.
	SecurityScheme = "token"
)

// ownerDigits is the length of an Ed25519 key in hex.
const ownerDigits = 64

// Needs declares the scope of an operation.
func Needs(s Scope) []map[string][]string {
	return []map[string][]string{{SecurityScheme: {string(s)}}}
}

// Public declares that anybody may ask.
func Public() []map[string][]string { return []map[string][]string{} }

// Guard knows callers and checks scopes.
type Guard struct {
	Tokens *Keeper
	// BehindAgent says that nobody but the agent reaches this server, so that
	// OwnerHeader can be believed.
	BehindAgent bool
}

var crossOrigin = http.NewCrossOriginProtection()

// Identify finds out who asks, and refuses what a page of another site makes a
// browser send.
func (g *Guard) Identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := g.identify(r)
		if c := id.caller; c != nil && c.Way != WayToken && fromAnotherSite(r) {
			refuseOtherSite(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
	})
}

// SameSite refuses what a page of another site makes a browser send, whoever
// asks: who a browser is known as is not another site's to change.
func SameSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromAnotherSite(r) {
			refuseOtherSite(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuseOtherSite(w http.ResponseWriter) {
	problem.New(http.StatusForbidden, "cross-site", "a page of another site may not change anything here").Write(w)
}

// fromAnotherSite judges what changes something, and what opens a WebSocket,
// which browsers let any page do.
func fromAnotherSite(r *http.Request) bool {
	if r.Header.Get("Upgrade") != "" {
		changing := *r
		changing.Method = http.MethodPost
		r = &changing
	}
	return crossOrigin.Check(r) != nil
}

// identify takes the secrets off the request. A token of ours is what counts
// where there is one: so an owner can act with less than everything.
func (g *Guard) identify(r *http.Request) identity {
	owner, bearer, cookie := r.Header.Get(OwnerHeader), takeBearer(r), takeCookie(r)
	r.Header.Del(OwnerHeader)
	switch {
	case bearer != "":
		return g.byToken(bearer, WayToken)
	case g.BehindAgent && isKey(owner):
		return identity{caller: &Caller{Way: WayOwner, Owner: owner, Scopes: Scopes{Everything}}}
	case cookie != "":
		return g.byToken(cookie, WayCookie)
	case r.Header.Get("Authorization") != "":
		return identity{reason: "the authorization is no token of this toolshed's"}
	}
	return identity{reason: "the request bears no token"}
}

func (g *Guard) byToken(text string, way Way) identity {
	t, ok := g.Tokens.find(text)
	if !ok {
		return identity{reason: "the token is unknown, revoked or expired"}
	}
	id := identity{caller: &Caller{Way: way, Token: t.ID, Name: t.Name, Scopes: t.Scopes, Expires: t.Expires}, tokens: g.Tokens}
	if way == WayToken {
		id.bearer = text
	}
	return id
}

func isKey(owner string) bool {
	_, err := hex.DecodeString(owner)
	return err == nil && len(owner) == ownerDigits
}

// takeBearer takes a token of ours off the request. Others stay: they may be
// for what an API passes the request to.
func takeBearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.Trim(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(token, tokenPrefix) {
		return ""
	}
	r.Header.Del("Authorization")
	return token
}

func takeCookie(r *http.Request) string {
	found, err := r.Cookie(CookieName)
	if err != nil {
		return ""
	}
	all := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range all {
		if c.Name != CookieName {
			r.AddCookie(c)
		}
	}
	return found.Value
}

// Check answers a refusal where the caller has not the scope, and nil where
// they do.
func Check(ctx context.Context, s Scope) *problem.Problem {
	id, _ := ctx.Value(identityKey{}).(identity)
	switch {
	case id.caller == nil:
		return problem.New(http.StatusUnauthorized, "unauthenticated", fmt.Sprintf("%s; this takes one with the scope %s", id.reason, s))
	case !id.caller.Scopes.Cover(s):
		return problem.New(http.StatusForbidden, "scope-missing", fmt.Sprintf("the token lacks the scope %s", s))
	}
	return nil
}

// Require passes only requests of callers who have the scope.
func Require(s Scope, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused := Check(r.Context(), s); refused != nil {
			refuse(w, s, refused)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Middleware checks the scope that each operation of the framework declares.
func Middleware(ctx huma.Context, next func(huma.Context)) {
	for _, s := range declared(ctx.Operation()) {
		if refused := Check(ctx.Context(), s); refused != nil {
			_, w := humago.Unwrap(ctx)
			refuse(w, s, refused)
			return
		}
	}
	next(ctx)
}

// declared is what an operation needs: Everything where it does not say.
func declared(op *huma.Operation) (scopes Scopes) {
	if op.Security == nil {
		return Scopes{Everything}
	}
	for _, way := range op.Security {
		for _, s := range way[SecurityScheme] {
			scopes = append(scopes, Scope(s))
		}
	}
	if len(op.Security) > 0 && len(scopes) == 0 {
		return Scopes{Everything}
	}
	return scopes
}

func refuse(w http.ResponseWriter, s Scope, p *problem.Problem) {
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer scope=%q", s))
	} else {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer error=\"insufficient_scope\", scope=%q", s))
	}
	p.Write(w)
}

// Cookie is what a browser keeps of a token; nil where the token is none.
func (g *Guard) Cookie(text string) *http.Cookie {
	t, ok := g.Tokens.find(text)
	if !ok {
		return nil
	}
	return &http.Cookie{
		Name: CookieName, Value: text, Path: "/", Expires: t.Expires, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}
