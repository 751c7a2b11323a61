package standin

import (
	"net/http"
	"net/url"
)

// token is what was answered to a client token.
type token struct {
	parameters string
	answer     answer
}

// idempotent makes the same request with the same client token once, and
// refuses the same token with other parameters:
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
func (c *Cloud) idempotent(in *call, do func(*call) (answer, *refusal)) (answer, *refusal) {
	c.run.Lock()
	defer c.run.Unlock()
	name, parameters := in.action+" "+in.form.Get("ClientToken"), parametersOf(in.form)
	c.mu.Lock()
	known, ok := c.tokens[name]
	c.mu.Unlock()
	switch {
	case in.form.Get("ClientToken") == "":
		return do(in)
	case ok && known.parameters != parameters:
		return answer{}, refuse(http.StatusBadRequest, "IdempotentParameterMismatch", "The client token was used with other parameters.")
	case ok:
		return known.answer, nil
	}
	out, refused := do(in)
	if refused == nil && out.status == http.StatusOK {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tokens[name] = token{parameters, out}
	}
	return out, refused
}

// parametersOf is every parameter, in order of their names.
func parametersOf(form url.Values) string {
	all := url.Values{}
	for name, values := range form {
		if name != "ClientToken" {
			all[name] = values
		}
	}
	return all.Encode()
}
