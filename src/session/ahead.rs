//! Tokens chosen on the device: submits of several steps each, two of them on their way while the CPU reads what came
//! before, and what becomes of steps that ran too far.

use super::Session;
use crate::{
    backend::gpu::{Flight, ReadBack},
    error::{Error, Result},
    kernels::sampling::{DRAWN_TOKENS, SamplingWords},
    model::cache_rows,
    plan::Batch,
    platform::now_s,
    sample::{checked, seen_tokens},
};
use std::collections::VecDeque;

/// Most tokens of a submit: the device's ring holds as many as two submits bring.
pub const MAX_TOKENS_PER_SUBMIT: usize = DRAWN_TOKENS / 2;
/// Submits under way at once.
pub(super) const FLIGHTS: usize = 2;

/// What the device's buffers for choosing hold, and where results come back.
#[derive(Debug)]
pub(super) struct Picker {
    /// One more than submits under way, so that one can be read meanwhile.
    through: [ReadBack; FLIGHTS + 1],
    n_launched: usize,
    words: Option<SamplingWords>,
    n_drawn: usize,
}

impl Picker {
    pub fn new(mut read_back: impl FnMut(u64) -> ReadBack) -> Self {
        let through = std::array::from_fn(|_| read_back(4 * (1 + MAX_TOKENS_PER_SUBMIT) as u64));
        Self { through, n_launched: 0, words: None, n_drawn: 0 }
    }
}

/// A submit under way: the draws `first..first + n` of the device.
#[derive(Debug)]
struct Launched {
    flight: Flight,
    first: usize,
    n: usize,
}

impl Session {
    /// Tells the device how to choose from now on: the seed's next draw is number `n_drawn`, and what the context holds
    /// counts as seen.
    pub(super) fn choose_by(&mut self, words: SamplingWords, n_drawn: usize) {
        let (gpu, memory) = (&self.engine.gpu, &self.room.memory);
        gpu.write(memory, "sampling", bytemuck::cast_slice(&[words]));
        gpu.write_at(memory, "drawn", 0, &[n_drawn as u32]);
        if !words.is_penalty_free() {
            gpu.write(memory, "seen", &seen_tokens(&self.tokens, self.engine.config.n_vocab));
        }
        self.picker.words = Some(words);
        self.picker.n_drawn = n_drawn;
    }

    /// The most probable next token, chosen on the device.
    ///
    /// Errors: [`Error::Device`], also when a logit is no number.
    pub async fn most_probable(&mut self) -> Result<u32> {
        self.refresh_logits().await?;
        if self.picker.words != Some(SamplingWords::GREEDY) {
            self.choose_by(SamplingWords::GREEDY, 0);
        }
        let launched = self.launch(0, self.n_cached).await?;
        let mut tokens = VecDeque::new();
        self.land(launched, &mut tokens).await?;
        checked(tokens[0])
    }

    /// Submits `n_steps` steps from `position` on, each of which decodes the token that was chosen last and chooses the
    /// next; 0 chooses from the logits that are there.
    async fn launch(&mut self, n_steps: usize, position: usize) -> Result<Launched> {
        let programs = self.room.programs()?;
        let filtered = self.picker.words.is_some_and(|words| words.needs_bins());
        let pick = if filtered { &programs.filtered_pick } else { &programs.pick };
        let stepping = [&programs.decode, pick];
        // The CPU fetches experts between dispatches, so that such a step is submitted in pieces.
        let fetching = n_steps > 0 && programs.decode.has_stops();
        if fetching {
            assert_eq!(n_steps, 1, "one step at a time where experts wait in host memory");
            self.run(&stepping[..1], Batch { n_tokens: 1, position }).await?;
        }
        let (programs, times) = if fetching || n_steps == 0 { (&stepping[1..], 1) } else { (&stepping[..], n_steps) };
        let picker = &mut self.picker;
        let through = &picker.through[picker.n_launched % picker.through.len()];
        // How many were drawn, and the tokens, which may go round the ring.
        let first = picker.n_drawn % DRAWN_TOKENS;
        let (end, round) = ((first + times).min(DRAWN_TOKENS), (first + times).saturating_sub(DRAWN_TOKENS));
        let parts = [0..1, 1 + first..1 + end, 1..1 + round];
        let parts = &parts[..2 + (round > 0) as usize];
        let drawn = (&self.room.memory, "drawn", parts);
        let flight = self.engine.gpu.launch((programs, position..position + times), drawn, through)?;
        let launched = Launched { flight, first: picker.n_drawn, n: times };
        picker.n_launched += 1;
        picker.n_drawn += times;
        Ok(launched)
    }

    /// Waits for a submit and appends its tokens to `tokens`.
    async fn land(&self, launched: Launched, tokens: &mut VecDeque<u32>) -> Result<()> {
        let Launched { flight, first, n } = launched;
        let mut drawn = [0; 1 + MAX_TOKENS_PER_SUBMIT];
        let drawn = &mut drawn[..1 + n];
        self.engine.gpu.land(flight, drawn).await?;
        if drawn[0] as usize != first + n {
            let what = format!("{} tokens were chosen where {} were asked for", drawn[0], first + n);
            return Err(Error::Device { doing: "choosing tokens".into(), what });
        }
        tokens.extend(&drawn[1..]);
        Ok(())
    }
}

/// Tokens of one answer that the device chooses ahead of those that were asked for.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Submits under way, the oldest first.
    flights: VecDeque<Launched>,
    /// Tokens that have come back.
    ready: VecDeque<u32>,
    /// Tokens with keys and values once everything submitted is done.
    n_fed: usize,
    /// Tokens that may still be chosen.
    n_left: usize,
    /// The logits of the context's last token are there, and nothing was chosen from them.
    fresh: bool,
}

impl Ahead {
    /// For an answer to the context of `session`, whose last logits are there.
    pub fn new(session: &mut Session, max_tokens: Option<usize>) -> Self {
        session.pace.begin();
        Self {
            flights: VecDeque::with_capacity(FLIGHTS),
            ready: VecDeque::with_capacity(2 * DRAWN_TOKENS),
            n_fed: session.n_cached,
            n_left: max_tokens.unwrap_or(usize::MAX),
            fresh: true,
        }
    }

    /// Appends `token`, which was the last to be taken, to the context.
    ///
    /// Errors: as [`Session::feed`].
    pub async fn append(&mut self, session: &mut Session, token: u32) -> Result<()> {
        if self.n_fed == session.n_cached && !has_angles(session, self.n_fed + 1) {
            session.feed(&[token]).await?;
            (self.n_fed, self.fresh) = (session.n_cached, true);
            return Ok(());
        }
        // Its step is under way, or is the next that is submitted.
        session.append(&[token]);
        Ok(())
    }

    /// The next token.
    ///
    /// Errors: [`Error::Device`], also when a logit is no number.
    pub async fn next(&mut self, session: &mut Session) -> Result<u32> {
        if self.ready.is_empty() {
            self.launch(session).await?;
            let launched = self.flights.pop_front().expect("whoever asks for a token has appended the one before");
            let n = launched.n;
            session.land(launched, &mut self.ready).await?;
            session.pace.landed(n, now_s());
            self.launch(session).await?;
        }
        checked(self.ready.pop_front().expect("a submit brings a token"))
    }

    /// Submits as much as may be under way.
    async fn launch(&mut self, session: &mut Session) -> Result<()> {
        while self.flights.len() < FLIGHTS {
            let n_steps = if self.fresh { 0 } else { self.n_steps(session).await? };
            if n_steps == 0 && !self.fresh {
                break;
            }
            self.flights.push_back(session.launch(n_steps, self.n_fed).await?);
            self.fresh = false;
            self.n_fed += n_steps;
            self.n_left = self.n_left.saturating_sub(n_steps.max(1));
            session.logits_of = self.n_fed;
        }
        Ok(())
    }

    /// Steps of the next submit, 0 for now if none may run ahead.
    async fn n_steps(&self, session: &mut Session) -> Result<usize> {
        // A token that is appended has to have its step, whatever follows it.
        let is_owed = self.n_fed < session.n_cached;
        if is_owed {
            let (engine, context) = (session.engine.clone(), session.context);
            session.room.reserve(&engine, session.n_cached, context, true).await?;
        }
        let most = session.pace.n_tokens().min(self.n_left).min(session.capacity() - self.n_fed);
        let may_run = |n: &usize| {
            let end = self.n_fed + n;
            end <= session.n_cached + most_ahead(session, end) && has_angles(session, end)
        };
        Ok((0..=most).rev().find(|n| *n == 0 || may_run(n)).unwrap_or(0))
    }

    /// Forgets what ran ahead of the context of `session`.
    pub fn discard(&mut self, session: &mut Session) {
        if self.n_fed == 0 {
            return;
        }
        // After an error, a token may have been appended that has no keys and values.
        if session.n_cached > self.n_fed {
            session.tokens.truncate(self.n_fed);
            session.n_cached = self.n_fed;
        }
        if self.n_fed > cache_rows(&session.engine.config, &session.room.options) {
            session.n_written = session.n_written.max(self.n_fed);
        }
        if session.logits_of > session.n_cached {
            session.logits_of = 0;
        }
        self.forget();
    }

    /// Forgets everything: the answer is over, or the device is gone.
    pub fn forget(&mut self) {
        self.flights.clear();
        self.ready.clear();
        self.n_fed = 0;
    }
}

/// The rope angles in use are those for a text of `n_tokens`.
fn has_angles(session: &Session, n_tokens: usize) -> bool {
    session.engine.config.rope.first_angle_row(n_tokens) == session.first_angle_row
}

/// How many tokens a cache may be written ahead of the context, up to `end` in all.
fn most_ahead(session: &Session, end: usize) -> usize {
    let rows = cache_rows(&session.engine.config, &session.room.options);
    match session.room.programs() {
        Ok(programs) if programs.decode.has_stops() => 0,
        // In a ring, the next token and the last must still see their windows.
        _ if end > rows => session.room.options.max_tokens.saturating_sub(1),
        _ => usize::MAX - end,
    }
}
