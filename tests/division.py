"""List the slow tests, and distribute tests over the processes of pytest-xdist.

Tests that share a lab or a fixture run in one process. The groups of xdist itself (`--dist loadgroup`) have no effect
since pytest 9.2, which removed `_nodeid`.
"""

from __future__ import annotations

from typing import Any

TOGETHER = ("browser", "api")
"""Folders of tests that share one lab. Two browsers at once made each of them 1.55 times as slow on two cores."""
FORKS_BEFORE_RAY = ("unit/space/test_zerogpu.py", "unit/space/test_zerogpu_views.py", "unit/sweeps/test_on_ray.py")
"""Files that run in one process, in this order: processes that are forked after Ray was used crash."""
LONGEST = (
    "browser",
    "api",
    "stress/test_stress.py",
    "unit/engine/test_parallel.py",
    "unit/sweeps/test_on_ray.py",
    "unit/export/test_export_script.py",
)
"""Groups that take minutes. They start first, so that all processes end at about the same time."""
SLOW = (
    # Pages: other tests cover the same steps in English, in the light theme, or without a browser.
    "browser/test_end_of_study.py::test_six_seeds_name_their_rows_and_conclusion_and_scroll_no_view_sideways_on_a_phone[zh/]",
    "browser/test_first_visit.py::test_a_slow_network_is_slow",
    "browser/test_hostile_text.py::test_columns_and_file_names_are_shown_as_text",
    "browser/test_journey.py::test_a_reload_brings_back_what_was_set",
    "browser/test_learn_tab.py::test_a_fault_is_run_for_real_and_its_damage_is_reported",
    "browser/test_learn_tab.py::test_a_lesson_sets_the_controls_of_a_study[4]",
    "browser/test_learn_tab.py::test_a_lesson_sets_the_controls_of_a_study[5]",
    "browser/test_learn_tab.py::test_a_lesson_sets_the_controls_of_a_study[6]",
    "browser/test_noise_tab.py::test_nothing_is_wider_than_a_phone",
    "browser/test_page_messages.py::test_a_refused_file_is_reported_at_its_field_until_another_is_chosen[zh",
    "browser/test_state.py::test_a_reload_does_not_ask_for_the_plan_at_every_value",
    "browser/test_steering_page.py::test_a_finished_study_goes_on_and_its_verdict_says_so",
    "browser/test_training_curves.py::test_curves_whose_tab_was_left_before_plotly_had_loaded_are_drawn_when_it_opens_again",
    "browser/test_two_languages.py::test_the_button_leads_to_the_same_page_in_the_other_language_and_back",
    "browser/test_two_languages.py::test_a_study_is_trained_on_the_chinese_page",
    "browser/test_walk.py::test_no_tab_has_a_serious_fault_of_accessibility[dark-zh]",
    # Several processes and machines: other tests cover the numbers on two processes and one sweep on Ray.
    "unit/engine/test_parallel.py::test_an_arm_is_stopped_and_live_noise_is_changed_in_both_processes",
    "unit/engine/test_parallel.py::test_a_finished_study_goes_on_with_two_processes_as_one_record",
    "unit/engine/test_parallel.py::test_a_study_on_two_processes_stops_on_request_and_continues",
    "unit/engine/test_parallel.py::test_what_one_process_cannot_prepare_ends_all_with_its_sentence",
    "unit/sweeps/test_on_ray.py::test_a_record_that_does_not_come_back_is_not_called_finished",
    "unit/sweeps/test_on_ray.py::test_a_stop_ends",
    "unit/sweeps/test_on_ray.py::test_a_sweep_on_ray_loses_a_machine_and_ends_as_the_local_one",
    # Cases that resemble faster ones.
    "unit/engine/test_device_placement.py::test_a_checkpoint_is_resumed_on_the_device[full]",
    "unit/engine/test_device_placement.py::test_measures_of_a_seed_and_the_views_inside_a_model_stay_on_the_device[Mamba]",
    "unit/engine/test_device_placement.py::test_measures_of_a_seed_and_the_views_inside_a_model_stay_on_the_device[T5]",
    "unit/engine/test_device_placement.py::test_training_stays_on_the_device_with_the_losses_of_the_processor[full]",
    "unit/engine/test_device_placement.py::test_training_stays_on_the_device_with_the_losses_of_the_processor[in turn]",
    "unit/engine/test_engine_kinds.py::test_an_encoder_decoder_gets_noise_at_both_embeddings_and_trains_in_lockstep[BART]",
    "unit/engine/test_graphs.py::test_layers_that_draw_masks_run_eagerly[training0]",
    "unit/engine/test_graphs.py::test_recorded_layers_have_every_number_of_eager_ones[in turn]",
    "unit/engine/test_methods.py::test_adapters_in_turn_have_the_numbers_of_adapters_together[0.0]",
    "unit/engine/test_methods_beside_noise.py::test_arms_are_together_what_they_are_alone_and_the_base_is_not_written[full]",
    "unit/evaluation/test_verdict.py::test_where_nothing_is_there_few_studies_claim_anything[8]",
    "unit/export/test_cards.py::test_the_card_of_an_arm_of_the_packaged_model_is_enough",
    "unit/export/test_cards.py::test_the_card_of_an_arm_of_the_bundled_model_is_enough[merged]",
    "unit/export/test_export_script.py::test_the_script_finds_its_files_in_a_mounted_folder_and_writes_into_another",
    "unit/export/test_export_script.py::test_the_script_trains_all_weights_where_the_study_does",
    "unit/export/test_export_script.py::test_models_whose_configuration_has_dropout_are_trained_as_in_the_lab",
    "unit/lessons/test_lessons.py::test_the_damage_of_a_fault_is_there_and_its_sentence_has_its_numbers[constant-std]",
    "unit/lessons/test_lessons.py::test_the_damage_of_a_fault_is_there_and_its_sentence_has_its_numbers[loss-on-everything]",
    "unit/lessons/test_lessons.py::test_the_damage_of_a_fault_is_there_and_its_sentence_has_its_numbers[lost-newline]",
    "unit/lessons/test_lessons.py::test_the_damage_of_a_fault_is_there_and_its_sentence_has_its_numbers[noisy-evaluation]",
    "unit/studies/test_best_arms.py::test_a_killed_run_ends_with_the_same_best_weights[3]",
    "unit/studies/test_best_arms.py::test_a_killed_run_ends_with_the_same_best_weights[9]",
    "unit/studies/test_going_on.py::test_a_study_that_goes_on_has_the_numbers_of_one_trained_at_once[constant]",
    "unit/studies/test_record_limits.py::test_a_part_made_to_exhaust_memory_costs_the_server_none[events]",
    "unit/studies/test_resume.py::test_a_command_that_is_asked_to_end_stops_with_a_checkpoint",
    "unit/studies/test_resume.py::test_a_run_that_died_continues_as_if_it_had_not[at0]",
    "unit/studies/test_resume.py::test_a_run_that_died_continues_as_if_it_had_not[at1]",
    "unit/studies/test_steering.py::test_a_later_seed_repeats_the_strength_with_which_it_began[0-12]",
    "unit/studies/test_steering.py::test_a_later_seed_repeats_the_strength_with_which_it_began[1-1]",
    "unit/studies/test_steering.py::test_a_live_study_that_was_killed_repeats_its_changes[at0]",
    "unit/studies/test_steering.py::test_a_live_study_that_was_killed_repeats_its_changes[at2]",
    "unit/studies/test_steering.py::test_a_stopped_arm_stays_stopped_after_the_process_was_killed[at0]",
    "unit/studies/test_steering.py::test_a_stopped_arm_stays_stopped_after_the_process_was_killed[at1]",
    "unit/sweeps/test_more_seeds.py::test_more_seeds_are_those_of_a_study_that_had_them_from_the_start[True]",
    "unit/sweeps/test_sweep.py::test_an_interrupted_sweep_ends_like_an_uninterrupted_one[1]",
    "unit/sweeps/test_sweep.py::test_an_interrupted_sweep_ends_like_an_uninterrupted_one[4]",
    # Long versions of shorter tests, and tests that `.ci/wheel` covers.
    "stress/test_stress.py::test_an_attack_does_no_harm[gate.ended_by_the_system_under_load]",
    "stress/test_stress.py::test_an_attack_does_no_harm[strangers.imports_over_the_share_of_a_visitor]",
    "stress/test_stress.py::test_an_attack_does_no_harm[strangers.a_data_set_that_searches_the_disk_of_the_host]",
    "unit/data/test_fitting.py::test_a_study_on_long_conversations_ends_finished_and_counts_what_it_cut",
    "unit/test_documentation.py::test_the_example_notebook_runs_and_holds_its_outputs",
    "unit/test_package.py::test_a_wheel_carries_the_assets_and_serves_them_elsewhere",
    "unit/world/test_world_build.py::test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one",
)
"""Prefixes of the ids of slow tests. Other slow tests are marked in their own files."""


def is_slow(nodeid: str) -> bool:
    """Return whether `SLOW` contains a prefix of the id."""
    return nodeid.removeprefix("tests/").startswith(SLOW)


def group_of(nodeid: str) -> str:
    """Return the group of a test: its file, or its folder if the folder shares a lab."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    folder = file.partition("/")[0]
    if file in FORKS_BEFORE_RAY:
        return FORKS_BEFORE_RAY[-1]
    return folder if folder in TOGETHER else file


def rank_of(nodeid: str) -> int:
    """Return the position of the test's group in the starting order."""
    group = group_of(nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def scheduler(config: Any, log: Any) -> Any:
    """Return an xdist scheduler that runs each group in one process, in collection order."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
