package template

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/types"
)

// savedTemplate is a remembered template on its way to another program, in gob
// encoding: fields may be added.
type savedTemplate struct {
	Job          work.Job
	Transactions [][]byte
	Parent       types.Hash
	Note         []byte
	Variants     []savedVariant
}

type savedVariant struct {
	Job          uint64
	Suffix, Note []byte
}

// Save returns what Restore needs to take solutions of the jobs that are out.
func (s *Source) Save() ([]byte, error) {
	s.mu.Lock()
	recent := s.recent
	s.mu.Unlock()
	list := make([]savedTemplate, 0, len(recent))
	for _, r := range recent {
		t := savedTemplate{Job: *r.Job, Parent: r.Parent.ID, Note: r.Note}
		for _, tx := range r.Transactions {
			t.Transactions = append(t.Transactions, tx.Bytes())
		}
		r.mu.Lock()
		for _, v := range r.variants {
			t.Variants = append(t.Variants, savedVariant{v.job, v.suffix, v.note})
		}
		r.mu.Unlock()
		list = append(list, t)
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(list); err != nil {
		return nil, fmt.Errorf("write down the block templates: %w", err)
	}
	return b.Bytes(), nil
}

// Restore remembers the templates that another Source saved, for their
// solutions; nothing is published. Call it before Run, and before anything makes
// a template: ids of jobs go on after those restored.
func (s *Source) Restore(saved []byte) error {
	var list []savedTemplate
	if err := gob.NewDecoder(bytes.NewReader(saved)).Decode(&list); err != nil {
		return fmt.Errorf("block templates of the program before are lost: %w", err)
	}
	var last uint64
	recent := make([]*remembered, 0, len(list))
	for i := range list {
		t := &list[i]
		r := &remembered{Template: &Template{Job: &t.Job, CoinbaseValue: t.Job.Reward, Note: t.Note}}
		r.Parent.ID = t.Parent
		last = max(last, t.Job.ID)
		for _, raw := range t.Transactions {
			tx, err := types.DecodeTransaction(raw)
			if err != nil {
				return fmt.Errorf("block templates of the program before are lost: %w", err)
			}
			r.Transactions = append(r.Transactions, tx)
		}
		for _, v := range t.Variants {
			r.variants = append(r.variants, variant{v.Job, v.Suffix, v.Note})
			last = max(last, v.Job)
		}
		recent = append(recent, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = recent
	s.builder.jobs.Store(max(s.builder.jobs.Load(), last))
	return nil
}
