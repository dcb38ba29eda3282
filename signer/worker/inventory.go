package worker

import "context"

// What a ceremony asks besides. OpListKeys and OpListCertificates need a login.
const (
	OpListBlanks       Op = "list-blanks"       // → Tokens
	OpListKeys         Op = "list-keys"         // Token → Keys
	OpListCertificates Op = "list-certificates" // Token → Certificates
)

// Certificate is an X.509 certificate object of a token (PKCS#11 3.1, 4.6).
type Certificate struct {
	Label string `json:"label"`
	ID    []byte `json:"id"`  // CKA_ID, that of the key it belongs to
	DER   []byte `json:"der"` // CKA_VALUE
}

// ListBlanks returns the tokens that are not initialised. Their labels mean
// nothing; serials are those of the factory, if the device has any.
func (s *Supervisor) ListBlanks(ctx context.Context) ([]TokenInfo, error) {
	resp, err := s.inspect(ctx, &Request{Op: OpListBlanks})
	if err != nil {
		return nil, err
	}
	return resp.Tokens, nil
}

// ListKeys returns every private EC key of a token that is logged in, also
// those on curves that are not ours (Algorithm 0) and those without a public key.
func (s *Supervisor) ListKeys(ctx context.Context, token TokenRef) ([]Key, error) {
	resp, err := s.inspect(ctx, &Request{Op: OpListKeys, Token: token})
	if err != nil {
		return nil, err
	}
	return resp.Keys, nil
}

// ListCertificates returns the X.509 certificates of a token that is logged in.
func (s *Supervisor) ListCertificates(ctx context.Context, token TokenRef) ([]Certificate, error) {
	resp, err := s.inspect(ctx, &Request{Op: OpListCertificates, Token: token})
	if err != nil {
		return nil, err
	}
	return resp.Certificates, nil
}

// inspect makes a call that changes nothing.
func (s *Supervisor) inspect(ctx context.Context, req *Request) (*Response, error) {
	return exclusive(ctx, s, func() (resp *Response, err error) {
		err = s.do(ctx, func(p *process) error {
			if req.Token != (TokenRef{}) {
				if err := s.ensureLogin(p, req.Token); err != nil {
					return err
				}
			}
			resp, err = p.call(req, s.cfg.Timeouts.Call)
			return err
		})
		return resp, err
	})
}
