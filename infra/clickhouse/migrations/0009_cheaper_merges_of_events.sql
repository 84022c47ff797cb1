-- Merging costs a row of 60 columns more than landing it: 4.6 µs of CPU column by column, which
-- spares memory, 2.8 all columns at once. So young parts take the cheap way, large ones the sparing
-- one; and parts wait until 16 of a size are there instead of 5, so that a row is merged three times
-- on its way into 300 million, not five or six. docs/decisions/0045
ALTER TABLE raw.events MODIFY SETTING
    vertical_merge_algorithm_min_rows_to_activate = 10000000,
    merge_selector_base = 16;
