//! The assignments of a batch's tokens to experts, in groups of four that share one.

use super::{Call, Kernel, Needs};

pub static EXPERT_GROUPS: Kernel = Kernel {
    name: "expert_groups",
    shader: include_str!("../../shaders/expert_groups.wgsl"),
    params: &["n_experts", "n_used", "n_groups"],
    reads: &["step", "ids"],
    writes: &["groups"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 0.0,
};

/// Words of a group: the expert and four assignments.
pub const GROUP_WORDS: usize = 5;
/// In place of an expert or an assignment that is not there.
pub const NOBODY: u32 = u32::MAX;

fn reference(call: &mut Call<'_>) {
    let [n_experts, n_used, n_groups] = [0, 1, 2].map(|i| call.count(i));
    let n_assignments = call.step().n_tokens * n_used;
    let groups = groups_of(&call.reads[1][..n_assignments], n_experts);
    call.writes[0][..groups.len()].copy_from_slice(&groups);
    for unused in groups.len() / GROUP_WORDS..n_groups {
        call.writes[0][unused * GROUP_WORDS] = NOBODY;
    }
}

/// (groups, 5): the assignments to each expert, four to a group, by the expert's id of every assignment.
pub fn groups_of(ids: &[u32], n_experts: usize) -> Vec<u32> {
    let mut groups = Vec::new();
    for expert in 0..n_experts as u32 {
        let of_expert: Vec<u32> = (0..).zip(ids).filter(|(_, id)| **id == expert).map(|(a, _)| a).collect();
        for four in of_expert.chunks(4) {
            groups.push(expert);
            groups.extend((0..4).map(|i| four.get(i).copied().unwrap_or(NOBODY)));
        }
    }
    groups
}
