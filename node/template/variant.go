package template

import (
	"cmp"
	"slices"
	"sync"

	"qcitycoin.org/qcity/miner/work"
)

const (
	// defaultMaxVariants is how many variants a template may have.
	defaultMaxVariants = 20_000
	// keptVariants bounds the variants of older templates, in templates' worth of
	// them: beyond that the oldest templates are forgotten. At 120 bytes a variant
	// that is 24 MB.
	keptVariants = 10
)

// remembered is a template with the variants that were made of it.
type remembered struct {
	*Template

	mu       sync.Mutex
	variants []variant // ascending by job
}

// variant is all that a job has of its own: the end of its coinbase, and the note
// of its plan.
type variant struct {
	job          uint64
	suffix, note []byte
}

// Variant returns a job with the transactions, parent and time of another one, a
// remembered template's or a variant, whose coinbase pays by plan. It is false
// when that job is not remembered (any more), when its template has MaxVariants
// already, and when the plan cannot be mined, which is logged: then the job it
// was to be made of is the one to work on.
//
// A variant has an id of its own, which SubmitSolution knows for as long as its
// template. Nothing else is stored of it than what follows the extranonce in its
// coinbase. It may be called from many goroutines.
func (s *Source) Variant(jobID uint64, plan Plan) (*work.Job, bool) {
	r, ok := s.template(jobID)
	if !ok || r.count() >= s.cfg.MaxVariants {
		return nil, false
	}
	if err := plan.check(r.CoinbaseValue, s.builder.tag, s.cfg.MaxCoinbase); err != nil {
		s.sayBadPlan(&s.badVariant, "a miner works for the common coinbase, as the plan of its own cannot be used", r.Job.Height, err)
		return nil, false
	}
	v := variant{job: s.builder.jobs.Add(1), note: plan.Note}
	v.suffix = coinbaseSuffix(v.job, s.builder.tag, plan.Outputs)
	if !r.add(v, s.cfg.MaxVariants) {
		return nil, false
	}
	return r.of(v), true
}

// of returns the job of a variant.
func (r *remembered) of(v variant) *work.Job {
	job := *r.Job
	job.ID, job.CoinbaseSuffix = v.job, v.suffix
	return &job
}

func (r *remembered) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.variants)
}

// add keeps a variant unless there are as many as there may be. Those that are
// made at the same time come nearly in order.
func (r *remembered) add(v variant, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.variants) >= most {
		return false
	}
	r.variants = append(r.variants, v)
	for i := len(r.variants) - 1; i > 0 && r.variants[i-1].job > r.variants[i].job; i-- {
		r.variants[i-1], r.variants[i] = r.variants[i], r.variants[i-1]
	}
	return true
}

func (r *remembered) variant(job uint64) (variant, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := slices.BinarySearchFunc(r.variants, job, func(v variant, job uint64) int { return cmp.Compare(v.job, job) })
	if !ok {
		return variant{}, false
	}
	return r.variants[i], true
}

// find returns a job, the template it belongs to and the note of what it pays.
func (s *Source) find(id uint64) (r *remembered, job *work.Job, note []byte, ok bool) {
	s.mu.Lock()
	recent := s.recent
	s.mu.Unlock()
	for _, r := range slices.Backward(recent) {
		if r.Job.ID == id {
			return r, r.Job, r.Note, true
		}
		if r.Job.ID > id {
			continue // a template's variants come after it
		}
		if v, ok := r.variant(id); ok {
			return r, r.of(v), v.note, true
		}
	}
	return nil, nil, nil, false
}

// template returns the template that a job belongs to.
func (s *Source) template(id uint64) (*remembered, bool) {
	r, _, _, ok := s.find(id)
	return r, ok
}
